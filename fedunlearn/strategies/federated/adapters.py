"""FUSED: sparse adapters on some layers, trained on what remains; taking them off gives the model back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask, channel_quota
from fedunlearn.channels.packing import pack, unpack
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.aggregation import weighted_mean
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Down,
    ModelState,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import RECOVER, local_recipe
from fedunlearn.tasks.cohort import train_one
from fedunlearn.tasks.local_training import LocalTraining

LAYERS, SHARE = 2, 0.5
"""How many layers get an adapter, and of what share of their rows."""


@dataclass(frozen=True)
class SparseAdapters:
    """Rank layers by how much local training changes them, then train an adapter on the first of them only.

    An adapter is what is added to some rows of a layer; it starts at zero and all else is frozen, so that the model
    that the request found is always the sum without it. Options: `layers` that get one (2), `share` of each one's
    rows that it holds (0.5, drawn by the branch's seed). It moves less than fine-tuning does, and on small tasks leaves
    as much behind: it is there to be compared with.
    """

    name: str = "fused"
    source: str = (
        "Zhong et al. 2025, Unlearning through Knowledge Overwriting (FUSED, CVPR, arXiv 2502.20709); reconstruction: "
        "mean absolute change a channel as the measure, number of layers, rows in the place of low-rank factors, the "
        "output layer always among the adapted"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    options: frozenset[str] = frozenset({"layers", "share"})
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """One query, then `settings.rounds` rounds in which only the adapters move."""
        layers, share = whole(settings, "layers", LAYERS, lowest=1), positive(settings, "share", SHARE, 1.0)

        def choose(state: State, replies: Sequence[ClientReply]) -> State:
            changes = weighted_mean(
                [reply.arrays for reply in replies], [reply.metrics["num-examples"] for reply in replies]
            )
            return replace(state, mask=adapted_rows(changes, state.layout, layers, share, state.seed))

        measure = Phase("query.change", "remaining", lambda state: Down(), measure_change, choose)
        return [measure, *[RECOVER] * settings.rounds]


def measure_change(work: Work) -> Reply:
    """By how much one local training on the retained samples changes the weights of each channel, on average.

    Raises ClientError for fewer than 20 retained samples: what they change says too much of each of them.
    """
    if len(work.retain) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client keeps fewer than {MINIMUM_SAMPLES} samples and withholds how they change the model; the "
            "others' measurements serve without it."
        )
    started = time.monotonic()
    before = {name: tensor.clone() for name, tensor in work.model.state_dict().items()}
    recipe = replace(local_recipe(work.training, work.settings), local_epochs=1)
    train_one(LocalTraining(work.task, work.model, work.retain, recipe, work.generator), work.device)
    after = work.model.state_dict()
    changes = {}
    for group in work.layout.groups:
        rows = [(after[name] - before[name]).abs().reshape(group.channels, -1) for name in group.parameters]
        changes[group.layer] = torch.cat(rows, dim=1).mean(dim=1).numpy()
    return Reply(changes, {"num-examples": len(work.retain), "seconds": time.monotonic() - started})


def adapted_rows(
    changes: Mapping[str, np.ndarray], layout: Layout, layers: int, share: float, seed: int
) -> ChannelMask:
    """A seeded share of the rows of those layers whose channels changed most on average."""
    ranked = sorted(layout.groups, key=lambda group: -float(np.mean(changes[group.layer])))
    selected = {}
    for group in ranked[:layers]:
        generator = torch.Generator().manual_seed(derive_seed(seed, "adapter", group.layer))
        order = torch.randperm(group.channels, generator=generator)
        selected[group.layer] = order[: channel_quota(share, group.layer, group.channels)].sort().values
    return ChannelMask(selected)


def without_adapters(state: State) -> ModelState:
    """The model with the adapted rows as the request found them: exactly the base."""
    return unpack(state.model, pack(state.base, state.portion), state.portion)


methods.register("fused", SparseAdapters())

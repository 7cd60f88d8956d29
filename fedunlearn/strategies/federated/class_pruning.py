"""Class-discriminative pruning: channels that speak for one class are cut out, and the federation is fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.explained import intercepted
from fedunlearn.channels.layout import ChannelGroup, Layout, evaluation_mode
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion, pack, unpack
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import ClientReply, Down, ModelState, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.recovery import Recovery, local_recipe, send_with_arrays
from fedunlearn.tasks.base import with_classes
from fedunlearn.tasks.local_training import LocalTraining

RATE = 0.05
"""Share of all channels that is pruned."""
CLASSES, FORGOTTEN, PRUNED = "classes", "forgotten", "pruned:"


@dataclass(frozen=True)
class ClassPruning:
    """Mean activations a class and channel, TF-IDF scores, one-shot pruning, and fine-tuning without the class.

    Option `rate`: share of all channels of the network that is pruned, 0.05 as in the authors' experiments.
    Pruned channels are gone: they stay zero in the fine-tuning that follows.
    """

    name: str = "class-pruning"
    source: str = (
        "Wang et al. 2022, Federated Unlearning via Class-Discriminative Pruning (WWW, arXiv 2110.11794); "
        "reconstruction: the clients' means weighted by samples, the target naming the class, several classes by the "
        "sum of their scores, dense layers pruned like convolutions, one channel left in every layer"
    )
    scopes: frozenset[Scope] = frozenset({"classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    options: frozenset[str] = frozenset({"rate"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two queries, then `settings.rounds` rounds with the pruned channels at zero."""
        rate = positive(settings, "rate", RATE, 1.0)

        def prune(state: State, replies: Sequence[ClientReply]) -> State:
            forgotten = np.flatnonzero(state.arrays[FORGOTTEN]).tolist()
            activations, counts = mean_activations([reply.arrays for reply in replies], state.layout)
            if not counts[forgotten].any():
                raise ClientError(
                    f"no client holds {MINIMUM_SAMPLES} samples of a class to be forgotten, so that no channel can be "
                    "scored for it: use another method."
                )
            mask = top_of_network(tf_idf(activations, forgotten), rate)
            arrays = {f"{PRUNED}{layer}": channels for layer, channels in mask.to_arrays().items()}
            return replace(state, model=silence(state.model, mask, state.layout), arrays=arrays)

        return [
            Phase("query.forgotten", "target", lambda state: Down(), _name_classes, _collect_classes),
            Phase("query.activations", "all", lambda state: Down(), _activate, prune),
            *[Phase("train.recover", "remaining", send_with_arrays, _RECOVER_UNPRUNED, average)] * settings.rounds,
        ]


def tf_idf(activations: Mapping[str, Tensor], forgotten: Sequence[int]) -> dict[str, Tensor]:
    """How much each channel of each layer (float64, one a channel) speaks for the forgotten classes.

    With A (classes x channels): A[u, j] / sum_j A[u, j], times log((1 + classes) / (1 + the number of classes i with
    A[i, j] at least the channel's mean over the classes)). Several forgotten classes: their sum (*reconstruction*).
    """
    scores = {}
    for layer, table in activations.items():
        table = table.to(torch.float64)
        frequency = table / table.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        active = (table >= table.mean(dim=0)).sum(dim=0)
        scores[layer] = frequency[list(forgotten)].sum(dim=0) * torch.log((1 + len(table)) / (1.0 + active))
    return scores


def top_of_network(scores: Mapping[str, Tensor], rate: float) -> ChannelMask:
    """The share `rate` of highest scores over all layers together; at least one channel of each layer is left."""
    ranked = sorted(
        ((float(score), layer, channel) for layer, one in scores.items() for channel, score in enumerate(one)),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    chosen: dict[str, list[int]] = {layer: [] for layer in scores}
    for _, layer, channel in ranked[: round(rate * len(ranked))]:
        if len(chosen[layer]) < len(scores[layer]) - 1:
            chosen[layer].append(channel)
    return ChannelMask({layer: torch.tensor(sorted(one), dtype=torch.int64) for layer, one in chosen.items()})


def silence(model: ModelState, mask: ChannelMask, layout: Layout) -> ModelState:
    """The model with every parameter of the masked channels at zero, so that their output is zero."""
    rows = {
        name: mask.selected[group.layer]
        for group in layout.groups
        if len(mask.selected.get(group.layer, ()))
        for name in group.parameters
    }
    portion = Portion(rows)
    return unpack(model, {name: array * 0 for name, array in pack(model, portion).items()}, portion)


def mean_activations(
    replies: Sequence[Mapping[str, np.ndarray]], layout: Layout
) -> tuple[dict[str, Tensor], np.ndarray]:
    """The clients' tables (classes x channels) weighted by samples of each class, and those numbers (classes,)."""
    counts = np.sum([reply[CLASSES].astype(np.float64) for reply in replies], axis=0)
    tables = {}
    for group in layout.groups:
        total = np.sum([reply[group.layer] * reply[CLASSES][:, None].astype(np.float64) for reply in replies], axis=0)
        tables[group.layer] = torch.from_numpy(total / np.maximum(counts, 1)[:, None])
    return tables, counts


def activations_by_class(work: Work, samples: Samples) -> dict[str, np.ndarray]:
    """Mean over samples and space of each channel's output after ReLU, a row a class, and the class counts.

    A class with fewer than 20 samples is withheld: zeros, and a count of zero.
    """
    found = torch.bincount(samples.labels, minlength=work.classes)
    counts = torch.where(found >= MINIMUM_SAMPLES, found, 0)
    sums = {group.layer: torch.zeros(work.classes, group.channels, dtype=torch.float64) for group in work.layout.groups}
    labels = samples.labels[:0]

    def collect(group: ChannelGroup, output: Tensor) -> Tensor:
        maps = output.movedim(group.channel_dim, -1).relu()
        means = maps.reshape(len(labels), -1, group.channels).mean(dim=1, dtype=torch.float64)
        sums[group.layer].index_add_(0, labels, means)
        return output

    with torch.no_grad(), evaluation_mode(work.model), intercepted(work.model, work.layout.groups, collect):
        for start in range(0, len(samples), 128):
            labels = samples.labels[start : start + 128]
            with_classes(work.task).predict(work.model, work.task.inputs(samples.inputs[start : start + 128]))
    tables = {
        layer: torch.where(counts[:, None] > 0, total / counts.clamp_min(1)[:, None], 0.0).to(torch.float32).numpy()
        for layer, total in sums.items()
    }
    return {**tables, CLASSES: counts.to(torch.float32).numpy()}


def _activate(work: Work) -> Reply:
    # What is to be forgotten is still here, and its activations are what the scores are about.
    samples = Samples.concat([work.forget, work.retain])
    return Reply(activations_by_class(work, samples), {"num-examples": len(samples)})


def _name_classes(work: Work) -> Reply:
    """Which classes the forget set is of, 1 or 0 each: what the request has said anyway."""
    forgotten = torch.zeros(work.classes)
    forgotten[work.forget.labels] = 1.0
    return Reply({CLASSES: forgotten.numpy()}, {"num-examples": len(work.forget)})


def _collect_classes(state: State, replies: Sequence[ClientReply]) -> State:
    return replace(state, arrays={FORGOTTEN: np.max([reply.arrays[CLASSES] for reply in replies], axis=0)})


def unpruned(model: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray], layout: Layout) -> Portion:
    """All of the model but the pruned channels."""
    rows: dict[str, Tensor | None] = dict.fromkeys(model)
    for group in layout.groups:
        pruned = torch.from_numpy(arrays[f"{PRUNED}{group.layer}"].astype(np.int64))
        if len(pruned):
            kept = torch.ones(group.channels, dtype=torch.bool)
            kept[pruned] = False
            rows.update(dict.fromkeys((*group.parameters, *group.buffers), kept.nonzero().squeeze(1)))
    return Portion(rows)


@dataclass(frozen=True)
class _UnprunedRecovery(Recovery):
    """Recovery in which pruned channels do not come back."""

    def training(self, work: Work) -> LocalTraining:
        portion = unpruned(work.model.state_dict(), work.arrays, work.layout)
        return super().training(work)._replace(portion=portion)


_RECOVER_UNPRUNED = _UnprunedRecovery(lambda work: local_recipe(work.training, work.settings))

methods.register("class-pruning", ClassPruning())

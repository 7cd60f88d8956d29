"""SalUn: random labels, with only those weights moving that matter most to the forget set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.by_role import KeepMean, kept, without_kept
from fedunlearn.strategies.centralised.importance import check_enough, is_weight, mean_gradients, told
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.passes import wrong_labels
from fedunlearn.strategies.recovery import local_recipe, send_packed, send_with_arrays
from fedunlearn.tasks.training import train_locally

SHARE = 0.5
_BITS = "salient:"


@dataclass(frozen=True)
class SalUn:
    """A query for the saliency of every weight, then joint rounds in which the salient weights alone move.

    Saliency is the size of the loss's gradient on the forget set, summed over batches, of the original model. In each
    local epoch a target makes a pass over its forget set under wrong labels, drawn anew, and then, as everybody else
    does, one over its retained samples; momentum starts from zero in each pass. The mask goes down packed, a bit a
    weight.

    Option: `share` of all weights that move (default 0.5).
    """

    name: str = "salun"
    source: str = (
        "Fan et al. 2024, arXiv 2310.12508; reconstruction: both kinds of passes are made where their data are, and "
        "FedAvg joins them"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"share"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """One query, then `settings.rounds` joint rounds."""
        positive(settings, "share", SHARE, highest=1.0)
        ask = Phase("query.importance", "target", send_packed, _say_gradients, KeepMean(name="saliency", then=_masked))
        return [
            ask,
            *[Phase("train.joint", "all", send_with_arrays, _train, Average(finish=_salient_only))] * settings.rounds,
        ]


def _say_gradients(work: Work) -> Reply:
    check_enough(work.forget, "forgotten")
    started = time.monotonic()
    gradients = mean_gradients(work, work.forget, work.training.batch_size)
    return told(work, gradients, len(work.forget), started)


def salient(gradients: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """Which weights are among the `share` of all with the largest gradients, by parameter, as booleans.

    Of equally large ones the first are taken, so that there are always equally many.
    """
    sizes = np.concatenate([np.abs(array).reshape(-1) for array in gradients.values()])
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[np.argsort(-sizes, kind="stable")[: int(share * len(sizes))]] = True
    mask, start = {}, 0
    for name, array in gradients.items():
        mask[name] = chosen[start : start + array.size].reshape(array.shape)
        start += array.size
    return mask


def _masked(state: State) -> State:
    """The mask in the place of the gradients, packed to bits."""
    gradients = {name: array for name, array in kept(state, "saliency").items() if is_weight(name, array)}
    mask = salient(gradients, positive(state.settings, "share", SHARE, highest=1.0))
    bits = {f"{_BITS}{name}": np.packbits(chosen) for name, chosen in mask.items()}
    bare = without_kept(state, "saliency")
    return replace(bare, arrays={**bare.arrays, **bits})


def _train(work: Work) -> Reply:
    recipe = replace(local_recipe(work.training, work.settings), local_epochs=1)
    portion = None if work.mask is None else work.portion
    total, seen = 0.0, len(work.forget) + len(work.retain)
    with only_salient(work.model, _unpacked(work)):
        for _ in range(work.settings.local_epochs):
            relabelled = Samples(work.forget.inputs, wrong_labels(work.forget.labels, work.classes, work.generator))
            for samples in (relabelled, work.retain):
                if len(samples):
                    result = train_locally(work.task, work.model, samples, recipe, work.generator, portion)
                    total += result.mean_loss * len(samples)
    return work.updated(seen, loss=total / (seen * work.settings.local_epochs), epochs=work.settings.local_epochs)


def _unpacked(work: Work) -> dict[str, Tensor]:
    return {name: _mask(work.arrays, name, parameter) for name, parameter in work.model.named_parameters()}


def _mask(arrays: Mapping[str, np.ndarray], name: str, tensor: Tensor) -> Tensor:
    bits = np.unpackbits(arrays[f"{_BITS}{name}"], count=tensor.numel())
    return torch.from_numpy(bits.astype(bool)).view(tensor.shape)


def _salient_only(before: State, averaged: State) -> State:
    """The other weights as they were: the mean of equal numbers is only nearly that number."""
    model = dict(averaged.model)
    for name, tensor in before.model.items():
        if f"{_BITS}{name}" in before.arrays:
            model[name] = torch.where(_mask(before.arrays, name, tensor), model[name], tensor)
    return replace(averaged, model=model)


@contextmanager
def only_salient(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, weights outside the masks get no gradient; afterwards they are what they were, to the bit."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    hooks = [p.register_hook(masks[name].to(p.dtype).mul) for name, p in model.named_parameters() if p.requires_grad]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Weight decay needs no gradient.
                parameter.copy_(torch.where(masks[name], parameter, before[name]))


methods.register("salun", SalUn())

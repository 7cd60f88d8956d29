"""From attributions to a channel mask: what the target uses more than the remaining clients do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.errors import SettingsError

Attribution = Mapping[str, Tensor]

# Below this share of a layer's attribution the ratio of two shares says nothing.
_NEGLIGIBLE_SHARE = 1e-6


def normalised(attribution: Attribution) -> dict[str, Tensor]:
    """Each layer's scores as shares that sum to 1 (float64); negative scores count as 0.

    A layer with no positive score stays 0. Raw scores of different layers or models would compare scales.
    """
    shares = {}
    for layer, scores in attribution.items():
        positive = scores.double().clamp(min=0)
        total = positive.sum()
        shares[layer] = positive / total if total > 0 else positive
    return shares


def excess(target: Attribution, reference: Attribution) -> dict[str, Tensor]:
    """By layer, max(0, the target's share of attribution - the reference's): float64, 0..1, one a channel.

    Raises SettingsError if the two do not have the same layers and channels.
    """
    return {layer: difference.clamp(min=0) for layer, difference in _difference(target, reference).items()}


def auto_mask(target: Attribution, reference: Attribution, coverage: float = 0.95) -> ChannelMask:
    """The fewest channels of each layer that cover a share of the layer's excess: the ratio read off the attribution.

    Args:
        target: attribution of the forget set, by layer.
        reference: the remaining clients' average attribution.
        coverage: share of each layer's excess to cover, above 0 up to 1.

    A layer without excess selects nothing.

    Raises:
        SettingsError: coverage outside its range, or attributions of different networks.
    """
    if not 0.0 < coverage <= 1.0:
        raise SettingsError(f"a coverage of {coverage} is out of range: give a share above 0 and up to 1.")
    selected = {}
    for layer, scores in excess(target, reference).items():
        found = float(scores.sum()) > 0
        selected[layer] = _covering(scores, coverage) if found else scores.new_zeros(0).long()
    return ChannelMask(selected)


def excess_totals(attributions: Sequence[Attribution], counts: Sequence[int]) -> list[float]:
    """For each client, its excess over the average of the others: mean over layers of each layer's total, 0..1.

    `counts` are the clients' numbers of samples: the weights of that average. Fewer than 2 clients give zeros.

    Raises SettingsError if there is not one positive count a client.
    """
    if len(attributions) != len(counts) or any(count < 1 for count in counts):
        raise SettingsError(
            f"{len(attributions)} attributions came with counts {list(counts)}: give each one of at least 1."
        )
    if len(attributions) < 2:
        return [0.0] * len(attributions)
    totals = []
    for left_out, attribution in enumerate(attributions):
        others = [index for index in range(len(attributions)) if index != left_out]
        reference = weighted_mean([attributions[index] for index in others], [counts[index] for index in others])
        totals.append(total_excess(attribution, reference))
    return totals


def total_excess(target: Attribution, reference: Attribution) -> float:
    """Mean over the layers of the summed excess of each: how much of the target's attribution is its own, 0..1."""
    return fmean(float(scores.sum()) for scores in excess(target, reference).values())


def mass(attribution: Attribution) -> float:
    """Mean over the layers of the summed scores: how strongly a sample's answer hangs on the channels at all."""
    return fmean(float(scores.double().clamp(min=0).sum()) for scores in attribution.values())


def weighted_mean(attributions: Sequence[Attribution], counts: Sequence[int]) -> dict[str, Tensor]:
    """The clients' attributions averaged by their numbers of samples (float32): the reference attribution."""
    total = sum(counts)
    return {
        layer: sum(
            (scores[layer].double() * count for scores, count in zip(attributions, counts, strict=True)),
            start=torch.zeros_like(attributions[0][layer], dtype=torch.float64),
        )
        .div(total)
        .float()
        for layer in attributions[0]
    }


def top_ratio(scores: Attribution, ratio: float | Mapping[str, float], layout: Layout) -> ChannelMask:
    """The ceil(ratio x channels) channels of the highest scores in each layer; of equals, the lower index.

    `ratio` is 0..1, for all layers or by layer (a layer not named selects nothing).

    Raises SettingsError for a ratio outside 0..1, a ratio for an unknown layer, or scores of another network.
    """
    if isinstance(ratio, Mapping):
        layers = [group.layer for group in layout.groups]
        for layer in ratio:
            if layer not in layers:
                raise SettingsError(f"there is no layer {layer} to select {ratio[layer]} of: use {', '.join(layers)}.")
    return ChannelMask.full(layout).cut_back(scores, ratio, layout)


def rank(
    ranking: str, target: Attribution, reference: Attribution, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Scores by layer and channel whose highest are selected first.

    `ranking`: "excess" (share of the target's attribution above the reference's), "ratio" (one share over the
    other), "forget-only" (the target's alone), and the controls "random" (needs the generator) and "least"
    (the reverse of the excess).

    Raises SettingsError for another name, a missing generator, or attributions of different networks.
    """
    if ranking == "random":
        if generator is None:
            raise SettingsError("a random ranking needs a torch.Generator: pass one with the seed of the experiment.")
        return {
            layer: torch.rand(len(scores), generator=generator, dtype=torch.float64) for layer, scores in target.items()
        }
    if ranking not in _RANKINGS:
        known = ", ".join(sorted([*_RANKINGS, "random"]))
        raise SettingsError(f"there is no ranking called {ranking!r}; known: {known}.")
    _difference(target, reference)
    return _RANKINGS[ranking](target, reference)


def _difference(target: Attribution, reference: Attribution) -> dict[str, Tensor]:
    of_target, of_reference = normalised(target), normalised(reference)
    if of_target.keys() != of_reference.keys():
        raise SettingsError(
            f"the attributions cover layers {', '.join(of_target)} and {', '.join(of_reference)}:"
            " both must come from the same network."
        )
    for layer, shares in of_target.items():
        if shares.shape != of_reference[layer].shape:
            raise SettingsError(
                f"layer {layer} has {len(shares)} and {len(of_reference[layer])} channels in the two:"
                " both must come from the same network."
            )
    return {layer: shares - of_reference[layer] for layer, shares in of_target.items()}


def _covering(scores: Tensor, coverage: float) -> Tensor:
    highest = torch.sort(scores, descending=True, stable=True)
    reached = torch.cumsum(highest.values, dim=0)
    # Measured against the running sum's own end, so that full coverage is reachable in floating point.
    needed = int((reached < coverage * reached[-1]).sum()) + 1
    return highest.indices[:needed].sort().values


def _ratio(target: Attribution, reference: Attribution) -> dict[str, Tensor]:
    of_reference = normalised(reference)
    return {layer: shares / (of_reference[layer] + _NEGLIGIBLE_SHARE) for layer, shares in normalised(target).items()}


def _forget_only(target: Attribution, _reference: Attribution) -> dict[str, Tensor]:
    return normalised(target)


def _least(target: Attribution, reference: Attribution) -> dict[str, Tensor]:
    return {layer: -difference for layer, difference in _difference(target, reference).items()}


_RANKINGS: dict[str, Callable[[Attribution, Attribution], dict[str, Tensor]]] = {
    # Not cut off at 0: a large ratio reaches channels that the target uses less than the others do.
    "excess": _difference,
    "ratio": _ratio,
    "forget-only": _forget_only,
    "least": _least,
}

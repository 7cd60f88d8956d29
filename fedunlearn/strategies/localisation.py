"""Localising a request: the remaining clients' reference attribution, and the mask that the target makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from fedunlearn.channels.attribution import attribute, attribution_methods
from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask, votes
from fedunlearn.channels.selection import auto_mask, excess_spread, rank, top_ratio
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.aggregation import weighted_mean
from fedunlearn.strategies.method import ClientReply, Down, Phase, Reply, State, Work

REFERENCE, SPREAD = "reference:", "spread:"
MOST_SAMPLES = 1000
"""A client attributes at most this many of its retained samples: the mean settles long before."""
RANKINGS = ("excess", "ratio", "forget-only", "random", "least")


def attribution_of(work: Work, samples: Samples) -> dict[str, torch.Tensor]:
    """Mean attribution a channel over `samples`, with the method that the settings name."""

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(samples), 128):
            part = slice(start, start + 128)
            yield work.task.inputs(samples.inputs[part]), samples.labels[part]

    name = str(work.settings.options.get("attribution", "gradient-x-activation"))
    scores = attribute(work.model, work.task.loss, batches(), work.layout, name)
    return {layer: score.detach() for layer, score in scores.items()}


def make_reference(work: Work) -> Reply:
    """A remaining client's half: its mean attribution over (a seeded sample of) its retained data."""
    started = time.monotonic()
    samples = work.retain
    if len(samples) > MOST_SAMPLES:
        samples = samples.take(torch.randperm(len(samples), generator=work.generator)[:MOST_SAMPLES])
    scores = {layer: score.numpy() for layer, score in attribution_of(work, samples).items()}
    return Reply(scores, {"num-examples": len(samples), "seconds": time.monotonic() - started})


def collect_reference(state: State, replies: Sequence[ClientReply]) -> State:
    """The server's half: the clients' average, and how far the clients are from each other."""
    counts = [int(reply.metrics["num-examples"]) for reply in replies]
    reference = weighted_mean([reply.arrays for reply in replies], counts)
    scores = [
        {layer: torch.from_numpy(array.copy()) for layer, array in reply.arrays.items()}
        for reply in replies
        if reply.role == "remaining"
    ]
    own_counts = [n for n, reply in zip(counts, replies, strict=True) if reply.role == "remaining"]
    spread = excess_spread(scores, own_counts) if scores else dict.fromkeys(reference, 0.0)
    arrays = {f"{REFERENCE}{layer}": array for layer, array in reference.items()}
    arrays |= {f"{SPREAD}{layer}": np.array([spread.get(layer, 0.0)], np.float32) for layer in reference}
    return replace(state, arrays={**state.arrays, **arrays})


def select_channels(work: Work) -> Reply:
    """The target's half: attribute the forget set, compare with the reference, answer with the mask alone."""
    started = time.monotonic()
    own = attribution_of(work, work.forget)
    reference = {
        name.removeprefix(REFERENCE): torch.from_numpy(array.copy())
        for name, array in work.arrays.items()
        if name.startswith(REFERENCE)
    }
    spread = {
        name.removeprefix(SPREAD): float(array[0]) for name, array in work.arrays.items() if name.startswith(SPREAD)
    }
    settings = work.settings
    ranking = str(settings.options.get("ranking", "excess"))
    mask = auto_mask(own, reference, spread=spread)
    if settings.ratio != "auto":
        mask = top_ratio(rank(ranking, own, reference, work.generator), settings.ratio, work.layout)
    elif ranking != "excess":
        # A control gets as many channels of each layer as the method itself would take.
        sizes = {g.layer: len(mask.selected[g.layer]) / g.channels for g in work.layout.groups}
        mask = top_ratio(rank(ranking, own, reference, work.generator), sizes, work.layout)
    work.keep(
        "attribution",
        {f"forget:{layer}": score.numpy() for layer, score in own.items()}
        | {f"reference:{layer}": score.numpy() for layer, score in reference.items()},
    )
    return Reply(mask.to_arrays(), {"num-examples": len(work.forget), "seconds": time.monotonic() - started})


def unite(replies: Sequence[ClientReply], layout: Layout) -> ChannelMask:
    """The targets' masks as one: their union, cut back to their mean ratio; more votes come first."""
    masks = [ChannelMask.from_arrays(reply.arrays) for reply in replies]
    counts = np.array([reply.metrics["num-examples"] for reply in replies], dtype=np.float64)
    ratios = {}
    for group in layout.groups:
        sizes = [len(mask.selected.get(group.layer, ())) / group.channels for mask in masks]
        ratios[group.layer] = float(np.average(sizes, weights=counts))
    return ChannelMask.union(masks).cut_back(votes(masks, layout), ratios, layout)


def send_arrays(state: State) -> Down:
    """What goes down to a target: the reference attribution and its spread."""
    return Down(arrays=state.arrays)


def check_localisation(settings: UnlearnSettings) -> None:
    """Raise SettingsError for an attribution method or ranking that does not exist."""
    attribution_methods.get(str(settings.options.get("attribution", "gradient-x-activation")))
    ranking = str(settings.options.get("ranking", "excess"))
    if ranking not in RANKINGS:
        raise SettingsError(f"there is no ranking called {ranking!r}; known: {', '.join(RANKINGS)}.")


REFER = Phase("query.reference", "remaining", lambda state: Down(), make_reference, collect_reference)

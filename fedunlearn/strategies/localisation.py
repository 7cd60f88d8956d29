"""Localising a request: the remaining clients' reference attribution, and the mask that the target makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.attribution import attribute, attribution_methods
from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask, votes
from fedunlearn.channels.selection import auto_mask, excess_totals, mass, rank, top_ratio, total_excess
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.strategies.aggregation import mean_number, weighted_mean
from fedunlearn.strategies.method import ClientReply, Down, Phase, Reply, State, Work
from fedunlearn.strategies.option import choice
from fedunlearn.tasks.base import LogitsTask

Scores = dict[str, torch.Tensor]

REFERENCE, SPREAD, MASSES, CLASSES = "reference:", "spread", "masses", "classes"
FEWEST_CLIENTS = 3
"""A reference of fewer clients is refused: whoever is one of two, or gets the mean of one, reads the other's off it."""
MOST_SAMPLES = 512
"""A client attributes at most this many samples: the mean settles long before."""
RANKINGS = ("excess", "ratio", "forget-only", "random", "least")

DEVIATIONS = 1.5
"""An excess is the target's own when it is this many deviations above what remaining clients show each other."""
NEGLIGIBLE = 0.1
"""Nothing is taken when a smaller share of the target's kind of samples, class by class, is its own and the excess is
none of its own either: a model retrained without it hardly differs."""
NOBODY_ELSES = 0.9
"""From this share on nobody to speak of keeps samples of the forgotten kind, and a model retrained without it knows
nothing of it, however far the remaining clients are from each other."""
HEAVY = 3.0
"""Samples learned by heart against the rest hang on the channels this many times as strongly as ordinary ones, and on
nearly all channels: none can be singled out, and all are taken."""


Influence = Literal["concentrated", "by-heart", "spread", "none"]
"""How the forget set's influence lies in the model, as the target reads it off the attribution."""
FORGET_RATES: Mapping[Influence, float] = {"concentrated": 0.6, "by-heart": 0.3, "spread": 0.1, "none": 0.0}
"""Learning rate of the target's own step, as a multiple of the rounds'; 0: none is taken, and the channels are reset.
The others relearn part of what is spread."""
REWINDS: Mapping[Influence, float] = {"concentrated": 0.0, "by-heart": 0.9, "spread": 0.7, "none": 0.0}
"""How much of the way back to the start of training the channels go before that step. What was learned by heart
outlives the step alone, and of what is spread the others' rounds bring back as much as their own samples still say:
the farther the channels have to come, the less of it."""
FORGET_RATE, REWIND = "forget-rate", "rewind"
STEP_NUMBERS = {FORGET_RATE: frozenset(FORGET_RATES.values()), REWIND: frozenset(REWINDS.values())}
"""What a target may say of its step, by the number's name."""


class TooFewReferences(ClientError):
    """Fewer clients gave their attribution than a reference may be made of: nothing can be localised."""


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
    """A remaining client's half: its mean attribution over (a seeded sample of) its retained data, and class counts.

    Raises ClientError for fewer than 20 retained samples: their mean would say too much of each of them.
    """
    started = time.monotonic()
    if len(work.retain) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client keeps fewer than {MINIMUM_SAMPLES} samples and withholds their mean attribution; "
            "the others' reference serves without it."
        )
    samples = work.retain.some(MOST_SAMPLES, work.generator)
    scores = {layer: score.numpy() for layer, score in attribution_of(work, samples).items()}
    scores[CLASSES] = class_counts(work.retain, work.classes).numpy()
    return Reply(scores, {"num-examples": len(samples), "seconds": time.monotonic() - started})


def collect_reference(state: State, replies: Sequence[ClientReply]) -> State:
    """The server's half: the clients' average, and how far the remaining clients are from each other.

    Raises TooFewReferences where fewer than three clients answered.
    """
    if len(replies) < FEWEST_CLIENTS:
        raise TooFewReferences(
            f"a reference attribution needs {FEWEST_CLIENTS} clients with {MINIMUM_SAMPLES} retained samples and came "
            f"from {len(replies)}: use a method that localises nothing, such as retrain."
        )
    counts = [int(reply.metrics["num-examples"]) for reply in replies]
    reference = weighted_mean([_layers(reply.arrays) for reply in replies], counts)
    # Where everybody forgets something, what they retain shows how far clients are from each other.
    remaining = [reply for reply in replies if reply.role == "remaining"] or replies
    scores = [_tensors(_layers(reply.arrays)) for reply in remaining]
    totals = excess_totals(scores, [int(reply.metrics["num-examples"]) for reply in remaining])
    masses = [mass(one) for one in scores]
    arrays = {f"{REFERENCE}{layer}": array for layer, array in reference.items()}
    arrays[CLASSES] = np.stack([reply.arrays[CLASSES] for reply in replies]).sum(axis=0, dtype=np.float32)
    arrays[SPREAD] = np.array([np.mean(totals) + DEVIATIONS * np.std(totals)], np.float32)
    arrays[MASSES] = np.array([np.mean(masses), np.max(masses)], np.float32)
    return replace(state, arrays={**state.arrays, **arrays})


def select_channels(work: Work) -> Reply:
    """The target's half: attribute the forget set, compare with the reference, answer with the mask alone."""
    started = time.monotonic()
    samples = work.forget.some(MOST_SAMPLES, work.generator)
    own = attribution_of(work, samples)
    reference = _tensors(
        {n.removeprefix(REFERENCE): array for n, array in work.arrays.items() if n.startswith(REFERENCE)}
    )
    ranking = str(work.settings.options.get("ranking", "excess"))
    owned = owned_share(class_counts(work.forget, work.classes), work.arrays[CLASSES])
    influence = influence_of(own, reference, owned, float(work.arrays[SPREAD][0]), work.arrays[MASSES].tolist())
    if work.settings.ratio == "auto":
        mask = read_off(influence, own, reference, work.layout)
        if ranking != "excess":
            # A control gets as many channels of each layer as the method itself would take.
            scores = rank(ranking, own, reference, work.generator)
            mask = top_ratio(scores, _ratios(mask, work.layout), work.layout)
    else:
        mask = top_ratio(rank(ranking, own, reference, work.generator), work.settings.ratio, work.layout)
    work.keep(
        "attribution",
        {f"forget:{layer}": score.numpy() for layer, score in own.items()}
        | {f"reference:{layer}": score.numpy() for layer, score in reference.items()},
    )
    # Without classes there is no nearest wrong one to give a sample to.
    rate = FORGET_RATES[influence] if isinstance(work.task, LogitsTask) else 0.0
    step = {FORGET_RATE: rate, REWIND: REWINDS[influence]}
    return Reply(mask.to_arrays(), {"num-examples": len(samples), "seconds": time.monotonic() - started, **step})


def influence_of(own: Scores, reference: Scores, owned: float, spread: float, masses: Sequence[float]) -> Influence:
    """How the forget set's influence lies in the model; the first of these that holds decides.

    Concentrated: more excess than remaining clients show each other, or nobody else has its kind of samples. Learned by
    heart: much more attribution a sample than anybody else's. Spread: its kind of samples is its own to some part.
    None: nothing sets it apart.

    Args:
        own: attribution of the forget set, by layer.
        reference: the remaining clients' average attribution.
        owned: share of the target's kind of samples that is its own, 0 to 1 (`owned_share`).
        spread: excess from which on it is the target's own.
        masses: mean and highest attribution mass of the remaining clients.
    """
    if total_excess(own, reference) > spread or owned >= NOBODY_ELSES:
        return "concentrated"
    average, highest = masses
    if mass(own) > max(HEAVY * average, highest):
        return "by-heart"
    return "spread" if owned >= NEGLIGIBLE else "none"


def read_off(influence: Influence, own: Scores, reference: Scores, layout: Layout) -> ChannelMask:
    """The channels that the attribution itself asks for: what covers 95 % of the excess, small as that may be.

    What was learned by heart asks for all; where nothing sets the forget set apart there are none, so
    that plain fine-tuning is left.
    """
    if influence == "none":
        return ChannelMask.empty(layout)
    if influence == "by-heart":
        return ChannelMask.full(layout)
    return auto_mask(own, reference)


def _ratios(mask: ChannelMask, layout: Layout) -> dict[str, float]:
    """The share of each layer's channels that a mask selects."""
    return {g.layer: len(mask.selected.get(g.layer, ())) / g.channels for g in layout.groups}


def class_counts(samples: Samples, classes: int) -> torch.Tensor:
    """How many samples of each class there are, float32 (K,)."""
    return torch.bincount(samples.labels, minlength=classes).float()


def owned_share(forgotten: torch.Tensor, retained: np.ndarray) -> float:
    """Of all samples like the forgotten ones, the share that is forgotten: 0 to 1.

    Args:
        forgotten: forgotten samples of each class, (K,).
        retained: retained ones in the whole federation, (K,).
    """
    everything = forgotten + torch.from_numpy(retained.copy())
    shares = torch.where(everything > 0, forgotten / everything.clamp_min(1), 0.0)
    return float((forgotten * shares).sum() / forgotten.sum().clamp_min(1))


def _layers(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if name != CLASSES}


def _tensors(arrays: Mapping[str, np.ndarray]) -> Scores:
    return {layer: torch.from_numpy(array.copy()) for layer, array in arrays.items()}


def unite(
    replies: Sequence[ClientReply], layout: Layout, ratio: float | Mapping[str, float] | None = None
) -> ChannelMask:
    """The targets' masks as one: their union, cut back to their mean ratio; more votes come first.

    Args:
        ratio: what was asked for, which no target's mask may exceed; None where the attribution decides.
    """
    masks = [ChannelMask.from_arrays(reply.arrays) for reply in replies]
    counts = [reply.metrics["num-examples"] for reply in replies]
    each = [_ratios(mask, layout) for mask in masks]
    ratios = {}
    for group in layout.groups:
        ratios[group.layer] = mean_number([own[group.layer] for own in each], counts)
    united, counted = ChannelMask.union(masks), votes(masks, layout)
    united = united.cut_back(counted, ratios, layout)
    return united if ratio is None else united.cut_back(counted, ratio, layout)


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


def where_asked(settings: UnlearnSettings, words: Sequence[str] = ("all", "selected")) -> list[Phase]:
    """The phases after which only the targets' channels and the output layer move; none without `channels=selected`.

    For methods that reset nothing.

    Args:
        words: what the option `channels` may say.

    Raises:
        SettingsError: an option is none.
    """
    if choice(settings, "channels", words) != "selected":
        return []
    check_localisation(settings)
    return [REFER, Phase("query.attribute", "target", send_arrays, select_channels, restrict)]


def restrict(state: State, replies: Sequence[ClientReply]) -> State:
    """The targets' channels alone move from now on; all do where nothing sets the forget set apart."""
    asked = state.settings.ratio
    mask = unite(replies, state.layout, None if isinstance(asked, str) else asked)
    return replace(state, mask=mask if mask.count() else None)

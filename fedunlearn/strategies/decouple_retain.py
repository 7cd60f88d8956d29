"""Decouple and retain: the target's answers are driven out of distribution, then the others train on what remains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.error_histogram import histogram, mean, quantile
from fedunlearn.channels.adapter_places import adapter_places
from fedunlearn.channels.adapters import HIGHEST_RANK, AdapterPlan, Adapters
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, RequestError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.decoupling import ASCENT_OPTIONS, Ascent, add_noise, decouple
from fedunlearn.strategies.decoupling_claim import CLAIM_OPTIONS, Claim, sentences
from fedunlearn.strategies.localisation import where_asked
from fedunlearn.strategies.method import EVERY_SCOPE, ClientReply, Down, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import choice, whole
from fedunlearn.strategies.recovery import RECOVER, send_packed
from fedunlearn.tasks.outputs import errors

ERRORS, ERRORS_MESSAGE = "errors", "query.errors"
"""The one array that clients answer with: how many held-out samples have an error in each bin."""
COMMON = 0.95
"""Lambda is this quantile of the original model's errors."""
BACK, STILL_FALLING = 1.02, 0.99
"""Held-out error is back at 1.02 times the original's, and has settled when a round leaves 0.99 of it or more."""
WHERE = ("all", "selected", "adapters")
RANK = 4
DECOUPLING_OPTIONS = ASCENT_OPTIONS | CLAIM_OPTIONS | {"channels", "attribution", "ranking", "rank"}
STOPS = ("never", "settled", "original")
_THRESHOLD, _RETAINED, _ERROR, _ORIGINAL_ERROR, _STOPPED = (
    f"decouple-retain/{name}" for name in ("threshold", "retained", "error", "original-error", "stopped")
)


@dataclass(frozen=True)
class DecoupleRetain:
    """The target climbs until 95 % of its outputs are displaced by lambda, then the others train on what they keep.

    Lambda is the 95 % quantile of the original's errors on images that those who stay hold out, read off pooled
    histograms: a displacement that large cannot be the model's usual error. The target takes at most `max_steps` (50)
    steps of length `step` (0.01) times a gradient clipped to `clip` (1), looks at its outputs every `check_every` (1)
    steps, tries another way out where the first ends short (`decoupling_ways`), uploads once, and may leave. Errors
    and displacements are root mean squares; of a classifier they are those of its probabilities.

    Options: `stop` of the retention rounds: "never" (all rounds), "settled" (held-out error no longer falls) or
    "original" (it is back at the original's + 2 %); `channels`: "all" move, or those "selected" by localisation and
    the output layer (`attribution` and `ranking` are then those of `selective-channels`), or the target climbs in
    low-rank "adapters" of rank `rank` (4), which are merged before retention; `epsilon`, `delta` (1e-5),
    `gradient_bound` and `convexity`: noise on the upload, see `Claim`, which is no certificate of anything.
    """

    name: str = "decouple-retain"
    source: str = (
        "Realistic image-to-image unlearning by decoupling and knowledge retention (doi 10.1016/j.bdr.2026.100592); "
        "reconstruction: everything but the two steps and the notion of out-of-distribution, that is threshold, step, "
        "clip, stopping, noise, the federated form and all numbers"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = DECOUPLING_OPTIONS | {"stop"}
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Localisation where it is asked for, threshold, decoupling, then `settings.rounds` rounds of retention."""
        served = decoupling_phases(settings)
        if choice(settings, "stop", STOPS) == "never":
            return [*served, *[RECOVER] * settings.rounds]
        # After the last round there is nothing left to stop.
        return [*served, *[_RETAIN, _ASK_WHETHER_BACK] * (settings.rounds - 1), _RETAIN]

    def remarks(self, settings: UnlearnSettings) -> Sequence[str]:
        """The displacement bound, epsilon and delta, and everything that they assume."""
        return sentences(settings)


@dataclass(frozen=True)
class AscentOnly:
    """The decoupling of `decouple-retain` with nothing after it: what phase 1 alone leaves behind.

    Options: those of `decouple-retain` but `stop`.
    """

    name: str = "ascent-only"
    source: str = "the usual baseline, gradient ascent on the forget set; here the first phase of decouple-retain"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = DECOUPLING_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Threshold and decoupling; no round."""
        return decoupling_phases(settings)

    def remarks(self, settings: UnlearnSettings) -> Sequence[str]:
        """The displacement bound, epsilon and delta, and everything that they assume."""
        return sentences(settings)


def decoupling_phases(settings: UnlearnSettings) -> list[Phase]:
    """What comes before retention. Raises SettingsError."""
    Claim.of(settings)
    whole(settings, "rank", RANK, lowest=1, highest=HIGHEST_RANK)
    localisation = where_asked(settings, WHERE)
    ask = Phase(ERRORS_MESSAGE, "remaining", lambda state: Down(), say_errors, _set_threshold)
    return [*localisation, ask, Phase("train.decouple", "target", _send_threshold, _decouple, Average(finish=_merge))]


def say_errors(work: Work) -> Reply:
    """Histogram of the held-out samples' errors, and how many samples are retained.

    Raises ClientError where fewer than 20 are held out.
    """
    if len(work.held_out) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client holds out fewer than {MINIMUM_SAMPLES} samples and withholds their errors; the others' serve "
            "without it, and where there are none, train with a larger share held out."
        )
    counts = np.array(histogram(errors(work.task, work.model, work.held_out)), np.int32)
    return Reply({ERRORS: counts}, {"num-examples": len(work.retain)})


def pooled(replies: Sequence[ClientReply]) -> list[int]:
    """The histogram of all replies' errors."""
    together = np.stack([reply.arrays[ERRORS] for reply in replies])
    return [int(count) for count in together.sum(axis=0, dtype=np.int64)]


def _set_threshold(state: State, replies: Sequence[ClientReply]) -> State:
    counts = pooled(replies)
    found = {
        _THRESHOLD: quantile(counts, COMMON),
        _RETAINED: sum(reply.metrics["num-examples"] for reply in replies),
        _ORIGINAL_ERROR: mean(counts),
    }
    known = replace(state, arrays={**state.arrays, **{name: np.array([value]) for name, value in found.items()}})
    return _with_adapters(known) if choice(state.settings, "channels", WHERE) == "adapters" else known


def _with_adapters(state: State) -> State:
    """The state with adapters that add nothing yet. Raises RequestError where the server cannot build the network."""
    if state.network is None:
        raise RequestError("adapters need the network at the server; give `Architecture` a `network`.")
    places = adapter_places(state.network(state.base), state.layout)
    rank = whole(state.settings, "rank", RANK, lowest=1)
    plan = AdapterPlan(places, rank, scale=1.0, seed=derive_seed(state.seed, "adapters"))
    return state.with_adapters(Adapters.fresh(plan, state.base))


def _merge(before: State, averaged: State) -> State:
    """The state whose adapters, if there are any, are part of the model."""
    return replace(averaged, adapters=None)


def _send_threshold(state: State) -> Down:
    return Down(packed=state.packed(), arrays={name: state.arrays[name] for name in (_THRESHOLD, _RETAINED)})


def _decouple(work: Work) -> Reply:
    ascent, claim = Ascent.of(work.settings), Claim.of(work.settings)
    confined = choice(work.settings, "channels", WHERE) != "all"
    threshold = float(work.arrays[_THRESHOLD][0])
    done = decouple(
        work.task, work.model, work.forget, ascent, threshold, work.generator, work.portion if confined else None
    )
    numbers = {"batches": done.steps, "epochs": done.samples / len(work.forget)}
    deviation = claim.deviation(len(work.forget), int(work.arrays[_RETAINED][0]))
    if deviation:
        add_noise(work.model, deviation, work.generator)
        numbers["sigma"] = deviation
    if len(work.forget) >= MINIMUM_SAMPLES:
        # Of a single sample they would be its own.
        numbers |= {"displaced": done.displaced, "displacement": done.displacement}
    return work.updated(len(work.forget), **numbers)


def _unless_stopped(state: State) -> Down | None:
    return None if _STOPPED in state.arrays else send_packed(state)


def _is_back(state: State, replies: Sequence[ClientReply]) -> State:
    """Stopped, or not yet; the present error is what the next one is compared with."""
    error = mean(pooled(replies))
    if choice(state.settings, "stop", STOPS) == "original":
        stopped = error <= BACK * float(state.arrays[_ORIGINAL_ERROR][0])
    else:
        stopped = _ERROR in state.arrays and error >= STILL_FALLING * float(state.arrays[_ERROR][0])
    arrays = {**state.arrays, _ERROR: np.array([error])}
    return replace(state, arrays={**arrays, _STOPPED: np.ones(1)} if stopped else arrays)


_RETAIN = replace(RECOVER, down=_unless_stopped)
_ASK_WHETHER_BACK = Phase(ERRORS_MESSAGE, "remaining", _unless_stopped, say_errors, _is_back)

methods.register("decouple-retain", DecoupleRetain())
methods.register("ascent-only", AscentOnly())

"""Going back to the round whose error on the forget set is closest to that on unseen samples (SCRUB+R's rewind).

The target is asked for aggregates and never for a sample: the error on its forget set after each round, and, of the
last model, on samples that it held out of all training. Both are withheld where they are made of fewer than 20 samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import mean_number
from fedunlearn.strategies.by_role import kept, with_kept, without_kept
from fedunlearn.strategies.centralised.importance import check_enough
from fedunlearn.strategies.method import ClientReply, Phase, Reply, State, Work
from fedunlearn.strategies.recovery import send_packed
from fedunlearn.tasks.training import evaluate

CLASSES = "classes"
"""The one array of a reply, (K,): a K-th of the error in each place, for a class of its own may have few samples."""
REWIND_MESSAGE = "query.error"
_ERRORS = "errors"


def keep_checkpoint(round: int) -> Phase:
    """Ask the targets for the model's error on the forget set, and keep both for the end. `round`: 0 and up."""

    def combine(state: State, replies: Sequence[ClientReply]) -> State:
        errors = np.append(state.arrays.get(_ERRORS, np.zeros(0)), _mean_error(replies))
        return with_kept(replace(state, arrays={**state.arrays, _ERRORS: errors}), _name(round), state.packed())

    return Phase(REWIND_MESSAGE, "target", send_packed, _say_forget_error, combine)


def _go_back(state: State, replies: Sequence[ClientReply]) -> State:
    errors = state.arrays[_ERRORS]
    # The earlier of two rounds that are equally close, but for how shares are rounded on their way.
    best = int(np.abs(errors - _mean_error(replies)).round(6).argmin())
    chosen = state.with_packed(kept(state, _name(best)))
    bare = without_kept(chosen, *map(_name, range(len(errors))))
    return replace(bare, arrays={name: array for name, array in bare.arrays.items() if name != _ERRORS})


def _name(round: int) -> str:
    return f"checkpoint-{round}"


def _mean_error(replies: Sequence[ClientReply]) -> float:
    """The error over all targets' samples, 0 to 1."""
    counts = [reply.metrics["num-examples"] for reply in replies]
    errors = [float(reply.arrays[CLASSES].sum(dtype=np.float64)) for reply in replies]
    return mean_number(errors, counts)


def _say_forget_error(work: Work) -> Reply:
    check_enough(work.forget, "forgotten")
    return _told(work, work.forget)


def _say_unseen_error(work: Work) -> Reply:
    """The error on held-out samples of the forgotten classes, or of all where fewer than 20 are of these."""
    alike = torch.isin(work.held_out.labels, work.forget.labels)
    own = work.held_out.take(alike.nonzero().squeeze(1))
    unseen = own if len(own) >= MINIMUM_SAMPLES else work.held_out
    check_enough(unseen, "held-out")
    return _told(work, unseen)


def _told(work: Work, samples: Samples) -> Reply:
    wrong = evaluate(work.task, work.model, samples).predictions != samples.labels
    share = float(wrong.double().mean()) / work.classes
    return Reply({CLASSES: np.full(work.classes, share, np.float32)}, {"num-examples": len(work.forget)})


GO_BACK = Phase(REWIND_MESSAGE, "target", send_packed, _say_unseen_error, _go_back)
"""Ask the targets for the last model's error on unseen samples, and go back to the round that is closest to it."""

"""Forget sets that are named by a rule: a random share of the training samples, or the hardest that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fedunlearn.data.holding import Holding, holding
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.server.branches import MAIN
from fedunlearn.server.session import Session
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import evaluate

RULES = ("random", "hardest")
"""Rules for samples, each with a share: "random:0.1", a tenth of a client's training samples; "hardest:0.05", of those
that the original model answers as they are recorded (memorised) the ones with the largest loss, a twentieth of all."""


def parse_rule(text: str) -> tuple[str, float]:
    """ "random:0.1" -> ("random", 0.1). Raises SettingsError for anything else."""
    rule, _, share = text.partition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if rule not in RULES or not 0 < number < 1:
        raise SettingsError(
            f"samples = {text!r}: expected a list of indices, or {' or '.join(f'{one}:SHARE' for one in RULES)} with a "
            "share between 0 and 1."
        )
    return rule, number


def chosen_samples(
    session: Session, rule: str, client: int | None, out: Mapping[int, Sequence[int]] | None = None
) -> dict[int, list[int]]:
    """Client -> sorted positions that the rule picks among what it trains on; None: of every client.

    Where all clients are asked, those are left out whose share comes to no sample, or to all that they have. In a
    simulation every client's folder is here; nothing of what is computed for it leaves this process.

    Args:
        out: client -> positions that earlier requests have named; None: there are none.

    Raises:
        RequestError: nothing is picked.
    """
    name, share = parse_rule(rule)
    clients = range(session.settings.clients) if client is None else [client]
    found: dict[int, list[int]] = {}
    for one in clients:
        own = holding(session.settings, one, session.dataset)
        candidates = own.training_positions((out or {}).get(one, ()))
        count = round(share * len(candidates))
        if client is not None:
            count = max(1, count)
        if not 0 < count < len(candidates):
            continue
        pick = _drawn if name == "random" else _hardest
        picked = pick(session, own, candidates, count)
        if len(picked):
            found[one] = picked
    if not found:
        raise RequestError(f"samples = {rule!r} comes to no sample that its client could do without; name more.")
    return found


def hardest(task: Task, model: torch.nn.Module, own: Holding, candidates: np.ndarray, count: int) -> list[int]:
    """Sorted positions of the `count` samples with the largest loss among those that the model answers as recorded.

    Fewer where it answers fewer so: what it gets wrong, it does not remember.
    """
    samples = own.samples.take(candidates)
    answers = evaluate(task, model, samples)
    known = torch.nonzero(answers.predictions == samples.labels).flatten().numpy()
    losses = answers.losses.detach().numpy()[known]
    order = np.argsort(-losses, kind="stable")[:count]
    return sorted(int(position) for position in candidates[known[order]])


def _drawn(session: Session, own: Holding, candidates: np.ndarray, count: int) -> list[int]:
    generator = np.random.default_rng(derive_seed("forget-set", session.settings.seed, own.client))
    return sorted(int(position) for position in generator.choice(candidates, size=count, replace=False))


def _hardest(session: Session, own: Holding, candidates: np.ndarray, count: int) -> list[int]:
    # Of the trained model, whatever is served by now: a run that is gone on with must name the same samples.
    rounds = session.ledger.rounds(MAIN)
    if not rounds:
        raise RequestError("the hardest samples are known only after training; train the federation first.")
    state: Mapping[str, torch.Tensor] = session.models.load(rounds[-1].digest_after)
    session.blank.load_state_dict(state)
    return hardest(session.task, session.blank, own, candidates, count)

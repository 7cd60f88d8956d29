"""Forget sets named by a rule: a random share of the training samples, the hardest, most memorised, or planted ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from fedunlearn.data.holding import Holding, holding
from fedunlearn.data.planting import TRIGGERED
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.server.branches import MAIN
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import evaluate

Picker = Callable[[Holding, np.ndarray, int], list[int]]
"""`(holding, candidates, count) -> sorted positions`, of one client."""
RULES = ("random", "hardest", "memorised")
"""Rules for samples, each with a share: "random:0.1", a tenth of a client's training samples; "hardest:0.05", of those
that the original model answers as they are recorded the ones with the largest loss, a twentieth of all;
"memorised:0.05", the twentieth that is known only because it was trained on."""
TRIGGERED_RULE = "triggered"
"""A rule without a share: the samples that carry the planted trigger."""


def parse_rule(text: str) -> tuple[str, float]:
    """ "random:0.1" -> ("random", 0.1), "triggered" -> ("triggered", 1.0). Raises SettingsError for anything else."""
    if text == TRIGGERED_RULE:
        return text, 1.0
    rule, _, share = text.partition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if rule not in RULES or not 0 < number < 1:
        raise SettingsError(
            f"samples = {text!r}: expected a list of indices, {TRIGGERED_RULE}, or "
            f"{' or '.join(f'{one}:SHARE' for one in RULES)} with a share between 0 and 1."
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
    pick = None if name == TRIGGERED_RULE else _PICKERS[name](session)
    clients = range(session.settings.clients) if client is None else [client]
    found: dict[int, list[int]] = {}
    for one in clients:
        own = holding(session.settings, one, session.dataset)
        candidates = own.training_positions((out or {}).get(one, ()))
        if pick is None:
            candidates = candidates[own.parts[candidates] == TRIGGERED]
            if len(candidates):
                found[one] = candidates.tolist()
            continue
        count = round(share * len(candidates))
        if client is not None:
            count = max(1, count)
        if not 0 < count < len(candidates):
            continue
        picked = pick(own, candidates, count)
        if len(picked):
            found[one] = picked
    if not found:
        raise RequestError(f"samples = {rule!r} comes to no sample that its client could do without; name more.")
    return found


def hardest(task: Task, model: torch.nn.Module, own: Holding, candidates: np.ndarray, count: int) -> list[int]:
    """Sorted positions of the `count` samples with the largest loss among those that the model answers as recorded.

    Fewer where it answers fewer so: what it gets wrong, it does not remember. Where nothing is answered right or wrong
    it is the largest losses of all.
    """
    samples = own.samples.take(candidates)
    answers = evaluate(task, model, samples)
    known = np.arange(len(samples))
    if answers.scores is not None:
        known = torch.nonzero(answers.predictions == samples.labels).flatten().numpy()
    losses = answers.losses.detach().numpy()[known]
    order = np.argsort(-losses, kind="stable")[:count]
    return sorted(int(position) for position in candidates[known[order]])


def memorised(known: np.ndarray, unseen: np.ndarray, candidates: np.ndarray, count: int) -> list[int]:
    """Sorted positions of the `count` candidates whose label is likelier by most where they were trained on.

    Feldman and Zhang 2020 (arXiv 2008.03703), with one model of either kind: *reconstruction*.

    Args:
        known: probability of each candidate's recorded label in a model that was trained on it.
        unseen: the same in a model that was not.
    """
    order = np.argsort(unseen - known, kind="stable")[:count]
    return sorted(int(position) for position in candidates[order])


def _drawn(session: Session) -> Picker:
    def pick(own: Holding, candidates: np.ndarray, count: int) -> list[int]:
        generator = np.random.default_rng(derive_seed("forget-set", session.settings.seed, own.client))
        return sorted(int(position) for position in generator.choice(candidates, size=count, replace=False))

    return pick


def _hardest(session: Session) -> Picker:
    _load_original(session)

    def pick(own: Holding, candidates: np.ndarray, count: int) -> list[int]:
        return hardest(session.task, session.blank, own, candidates, count)

    return pick


def _memorised(session: Session) -> Picker:
    if session.settings.init is not None:
        raise RequestError(
            "what is memorised shows in models that never knew it, and the model that this federation started from may "
            "have known all of it; name samples by another rule."
        )
    halves = [_without_half(session, number) for number in (0, 1)]
    _load_original(session)
    original = dict(session.blank.state_dict())
    original = {name: tensor.clone() for name, tensor in original.items()}

    def probabilities(state: Mapping[str, torch.Tensor], own: Holding, positions: np.ndarray) -> np.ndarray:
        session.blank.load_state_dict(dict(state))
        answers = evaluate(session.task, session.blank, own.samples.take(positions))
        return (-answers.losses.detach()).exp().numpy()

    def pick(own: Holding, candidates: np.ndarray, count: int) -> list[int]:
        known, unseen = probabilities(original, own, candidates), np.zeros(len(candidates))
        for number, state in enumerate(halves):
            left_out = np.isin(candidates, _half(session, own, number))
            unseen[left_out] = probabilities(state, own, candidates[left_out])
        return memorised(known, unseen, candidates, count)

    return pick


def _half(session: Session, own: Holding, number: int) -> np.ndarray:
    """Positions of one of the two halves of what a client trains on."""
    positions = own.training_positions()
    generator = np.random.default_rng(derive_seed("half", session.settings.seed, own.client))
    return np.array_split(generator.permutation(positions), 2)[number]


def _without_half(session: Session, number: int) -> Mapping[str, torch.Tensor]:
    """A model of the same recipe for which every client left one half out, by a request from before the first round."""
    from fedunlearn.federation import Federation

    settings = {**session.settings.model_dump(), "prepare_for": ""}
    federation = Federation.simulate(out=session.folder.halves / str(number), **settings)
    for client in range(session.settings.clients):
        own = holding(session.settings, client, session.dataset)
        if len(half := _half(session, own, number)) < len(own.training_positions()):
            federation.request_deletion(client=client, samples=half.tolist())
    beside = Session(RunFolder.open(federation.folder))
    return beside.models.load(federation.train().digest)


def _load_original(session: Session) -> None:
    # Of the trained model, whatever is served by now: a run that is gone on with must name the same samples.
    rounds = session.ledger.rounds(MAIN)
    if not rounds:
        raise RequestError("which samples are known by heart shows after training; train the federation first.")
    state: Mapping[str, torch.Tensor] = session.models.load(rounds[-1].digest_after)
    session.blank.load_state_dict(state)


_PICKERS: Mapping[str, Callable[[Session], Picker]] = {"random": _drawn, "hardest": _hardest, "memorised": _memorised}

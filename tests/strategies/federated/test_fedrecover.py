from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.federated.fedrecover import advanced, estimate, exact_rounds
from fedunlearn.strategies.federated.stored_rounds import flat
from fedunlearn.strategies.history import StoredUpdate
from fedunlearn.strategies.method import methods


def settings(**options: float) -> UnlearnSettings:
    return UnlearnSettings(method="fedrecover", options=options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kept:
    """One kept round of clients 0 (who stays), 1 (who leaves) and 2 (who stays): a model of one weight vector."""

    sent: torch.Tensor
    back: dict[int, tuple[float, torch.Tensor]]

    def rounds(self) -> tuple[int, ...]:
        return (3,)

    def lacking(self, every: int) -> str:
        return ""

    def model(self, number: int) -> dict[str, torch.Tensor]:
        return {"w": self.sent}

    def updates(self, number: int) -> Iterator[StoredUpdate]:
        for client, (weight, model) in self.back.items():
            yield StoredUpdate(client, weight, {"w": model})


def test_exact_are_the_warm_up_one_in_a_period_and_the_last() -> None:
    assert exact_rounds(settings(), 15) == [1, 2, 6, 10, 14, 15]
    assert exact_rounds(settings(warm_up=3, period=5), 15) == [1, 2, 3, 8, 13, 15]
    assert exact_rounds(settings(warm_up=9), 3) == [1, 2, 3]
    assert exact_rounds(settings(period=1), 4) == [1, 2, 3, 4]
    phases = methods.get("fedrecover").phases(settings(), 15)
    assert sum(phase.is_round for phase in phases) == len(phases) == 6
    for wrong in ({"warm_up": 0}, {"period": 0}, {"buffer": 0}, {"threshold": 0.0}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            methods.get("fedrecover").phases(settings(**wrong), 15)


def test_an_estimate_adds_the_curvature_times_how_far_the_model_is_from_then() -> None:
    sent = torch.tensor([1.0, -1.0])
    steps, changes = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    found = estimate(sent, steps, changes, torch.tensor([0.5, 0.25]), 10.0)
    assert torch.allclose(found, torch.tensor([2.0, 0.0]))
    # Twice the largest value of what was sent is where an estimate stops being believed.
    assert torch.equal(estimate(sent, steps, changes, torch.tensor([0.5, 0.25]), 1.9), sent)


def test_an_estimated_round_is_a_step_of_the_mean_of_those_who_stay(place) -> None:
    then = torch.tensor([0.0, 0.0])
    kept = Kept(
        then,
        {0: (1.0, torch.tensor([-1.0, 0.0])), 1: (5.0, torch.tensor([9.0, 9.0])), 2: (3.0, torch.tensor([0.0, -2.0]))},
    )
    now = {"w": torch.tensor([1.0, 1.0])}
    arrays = {
        "steps": np.array([[1.0, 0.0]], np.float32),
        "changes/0": np.array([[0.5, 0.0]], np.float32),
        "changes/2": np.zeros((1, 2), np.float32),
    }
    state = replace(place.state("client", settings()), base=now, model=now, history=kept, targets=(1,), arrays=arrays)
    found = advanced(state, [3]).model["w"]
    # Client 0 sent (1, 0) and its curvature is 1/2 wherever it is known: (1.5, 0.5). Client 2 missed the exact round
    # and its update stands: (0, 2). Their mean, weighted 1 and 3, is (0.375, 1.625).
    assert torch.allclose(found, torch.tensor([1 - 0.375, 1 - 1.625]))


def test_it_starts_where_training_did_and_remembers_how_exact_rounds_differ(place) -> None:
    state, witness = place.serve("client", settings())
    start = place.state("client", settings())
    assert [len(report.outcome.answers) for report in witness.reports] == [4, 4]
    first = start.history.model(1)
    assert digest_state(first) == digest_state(place.session.fresh(place.session.settings.seed))
    after_one = witness.after[0]
    assert not after_one.arrays  # the first round starts where training did, and tells nothing of curvature
    step = flat(after_one.model) - flat(start.history.model(2))
    assert np.allclose(state.arrays["steps"][-1], step.numpy())
    assert {name for name in state.arrays if name.startswith("changes/")} == {f"changes/{c}" for c in (0, 2, 3, 4)}

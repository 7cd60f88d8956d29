"""Budgets: the rounds that fit, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings
from fedunlearn.contest.budget import (
    Budget,
    account,
    bytes_of,
    planned_epochs,
    rounds_for_bytes,
    runs_its_own_rounds,
    within_epochs,
)
from fedunlearn.errors import SettingsError
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import EVERY_SCOPE, Phase
from fedunlearn.strategies.recovery import RECOVER

counts = st.integers(1, 40)


@dataclass(frozen=True)
class OwnRounds:
    """Five rounds, whatever is asked."""

    name: str = "own"
    source: str = "a test"
    scopes = EVERY_SCOPE
    needs = frozenset[str]()
    own_rounds: bool = True

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        return [RECOVER] * 5


@given(share=st.floats(0.01, 2), rounds=counts, epochs=counts, local=counts)
def test_as_many_rounds_as_fit_and_one_more_would_not(share: float, rounds: int, epochs: int, local: int) -> None:
    federation = FederationSettings(rounds=rounds, local_epochs=epochs)
    allowed = Budget(client_epochs=share).epochs_of(federation)
    assert allowed == pytest.approx(share * rounds * epochs)
    method = methods.get("fine-tune")
    found = within_epochs(method, UnlearnSettings(method="fine-tune", local_epochs=local), allowed, rounds)
    spent = planned_epochs(method, found, rounds)
    assert spent == found.rounds * local
    assert found.rounds == 1 or spent <= allowed * (1 + 1e-6)
    assert spent + local > allowed * (1 - 1e-6)


@given(whole=st.integers(1, 60), local=st.integers(1, 5))
def test_a_share_that_is_no_binary_fraction_costs_no_round(whole: int, local: int) -> None:
    # A tenth of 10 * whole rounds is whole rounds, though 0.1 * 10 * whole may be a little less.
    federation = FederationSettings(rounds=10 * whole, local_epochs=local)
    allowed = Budget(client_epochs=0.1).epochs_of(federation)
    assert allowed is not None
    found = within_epochs(methods.get("fine-tune"), UnlearnSettings(local_epochs=local), allowed, 10 * whole)
    assert found.rounds == whole


@example(allowed=999_999_999, once=0, a_round=1)
@given(allowed=st.integers(1, 10**9), once=st.integers(0, 10**9), a_round=st.integers(1, 10**8))
def test_as_many_bytes_as_fit(allowed: int, once: int, a_round: int) -> None:
    rounds = rounds_for_bytes(allowed, once, a_round)
    assert rounds == 1 or once + rounds * a_round <= allowed
    assert once + (rounds + 1) * a_round > allowed * (1 - 1e-6)


def test_who_has_no_rounds_or_rounds_of_its_own_keeps_its_settings() -> None:
    silent = UnlearnSettings(method="zero-output-unit", rounds=7)
    assert within_epochs(methods.get("zero-output-unit"), silent, 2, 15) == silent
    own = OwnRounds()
    assert runs_its_own_rounds(own) and not runs_its_own_rounds(methods.get("fine-tune"))
    assert within_epochs(own, UnlearnSettings(rounds=7), 2, 15).rounds == 7
    assert planned_epochs(own, UnlearnSettings(local_epochs=2), 15) == 10


def test_epochs_or_bytes_and_above_nothing() -> None:
    assert Budget().epochs_of(FederationSettings()) is None
    with pytest.raises(SettingsError, match="give client_epochs or bytes, not both"):
        make_settings(Budget, {"client_epochs": 0.1, "bytes": 0.1})
    with pytest.raises(SettingsError, match="client-epochs = 0"):
        make_settings(Budget, {"client_epochs": 0})


def test_bytes_are_added_over_messages_clients_and_both_ways() -> None:
    row = {"train.recover": {"0": {"up": 3, "down": 4}, "1": {"up": 5, "down": 6}}}
    assert bytes_of([row, {}, {"query.count": {"1": {"up": 1, "down": 0}}}]) == 19


@pytest.mark.parametrize(
    ("allowed", "spent", "over"), [(3.75, 3.0, False), (3.0, 3.0, False), (3.0, 3.1, True), (None, 99, False)]
)
def test_more_than_allowed_is_marked(allowed: float | None, spent: float, over: bool) -> None:
    assert account(allowed, spent, "client_epochs", False, 3)["over"] is over
    assert account(allowed, None, "client_epochs", False, None)["over"] is False


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_within_its_budget_as_planned_or_has_rounds_of_its_own(name: str) -> None:
    method = methods.get(name)
    found = within_epochs(method, UnlearnSettings(method=name, rounds=9), 3.75, 15)
    spent = planned_epochs(method, found, 15)
    assert spent in (0, 3) or runs_its_own_rounds(method)

from __future__ import annotations

from fedunlearn.server.cost import cost_of
from fedunlearn.server.ledger_tables import PhaseRow, RoundRow

MODEL = 1000


def a_round(number: int, counts: dict, passes: dict) -> RoundRow:
    return RoundRow(
        "b", number, "x", "y", (0, 1), bytes={"train.recover": counts}, metrics={"passes": passes}, seconds=2.0
    )


def test_the_cost_by_hand() -> None:
    rounds = [
        a_round(1, {"0": {"up": 110, "down": 100, "base": 1000}, "1": {"up": 10, "down": 1016}}, {"0": 1, "1": 2}),
        a_round(2, {"0": {"up": 110, "down": 100}}, {"0": 1}),
    ]
    phases = [
        PhaseRow(
            "b",
            "0:query.reference",
            "x",
            "x",
            {"client_seconds": {"0": 0.5, "1": 0.25}},
            {"query.reference": {"0": {"up": 7, "down": 3}}},
            1.5,
        )
    ]
    cost = cost_of(rounds, phases, MODEL)
    assert (cost["rounds"], cost["seconds"], cost["attribution_seconds"]) == (2, 5.5, 0.75)
    assert cost["bytes_up"] == 110 + 10 + 110 + 7
    # What a base that was lacking added is in the second figure alone.
    assert cost["bytes_down"] == 100 + 1016 + 100 + 3
    assert cost["bytes_with_base"] == cost["bytes_up"] + cost["bytes_down"] + MODEL * 1
    assert cost["client_epochs"] == (2 + 2) / 2


def test_nothing_costs_nothing() -> None:
    cost = cost_of([], [], MODEL)
    assert all(value == 0 for value in cost.values())

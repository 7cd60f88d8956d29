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
    assert cost["active_clients"] == 2
    # A multiplication and an addition for each value of four bytes that came back from training.
    assert cost["server_flops"] == 2 * (110 + 10 + 110) / 4


def test_work_and_storage_by_hand() -> None:
    rounds = [
        RoundRow("b", 1, "x", "m1", (0,), metrics={"passes": {"0": 2}, "processed": {"0": 60.0}}, extras="e1"),
        RoundRow("b", 2, "m1", "m2", (0, 1), metrics={"processed": {"0": 60.0, "1": 30.0}}, extras="e1"),
    ]
    phases = [PhaseRow("b", "0:query.reference", "x", "x", {"processed": {"1": 15.0}, "extras": "e0"}, {}, 1.0)]
    sizes = {"x": 1, "m1": 10, "m2": 100, "e0": 1000, "e1": 10_000}
    cost = cost_of(rounds, phases, MODEL, operations=4.0, size_of=sizes.__getitem__)
    assert cost["samples_processed"] == 165 and cost["client_flops"] == 660
    # Each digest once: two rounds left the same reference behind.
    assert cost["stored_bytes"] == 11_111
    sizes |= {"kept": 100_000}
    with_history = cost_of(rounds, phases, MODEL, size_of=sizes.__getitem__, history=["kept", "m1"])
    assert with_history["stored_bytes"] == 111_111


def test_nothing_costs_nothing() -> None:
    cost = cost_of([], [], MODEL)
    assert all(value == 0 for value in cost.values())

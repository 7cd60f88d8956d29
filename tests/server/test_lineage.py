from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedunlearn.server.band import RECORDED
from fedunlearn.server.branches import SERVED
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_tables import PhaseRow, RoundRow
from fedunlearn.server.lineage import Lineage, lineage


def digest(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def ask(ledger: Ledger, id: str, *targets: int) -> None:
    ledger.add_request(
        id=id,
        scope="client",
        targets=targets,
        classes=None,
        count=1,
        commitment="c",
        signature="s",
        arrived_round=0,
    )


def train(ledger: Ledger, branch: str, number: int, before: int, after: int, *clients: int) -> None:
    ledger.record_round(RoundRow(branch, number, digest(before), digest(after), clients, extras=digest(1000 + after)))


def begin(ledger: Ledger, name: str, request: str, start: int, method: str = "fine-tune") -> None:
    settings = {"method": method, "start": digest(start), "base": digest(start)}
    ledger.create_branch(name, "unlearned", digest(start), request, settings)


def tainted(line: Lineage, request: str) -> set[int]:
    return {int(state.digest, 16) for state in line.descendants(request)}


@pytest.fixture
def two_rounds(ledger: Ledger) -> Ledger:
    """0 -> 1 (clients 0, 1) -> 2 (clients 1, 2)."""
    ledger.create_branch("main", "main", digest(0))
    train(ledger, "main", 1, 0, 1, 0, 1)
    train(ledger, "main", 2, 1, 2, 1, 2)
    return ledger


def test_a_model_descends_from_who_took_part_before(two_rounds: Ledger) -> None:
    ask(two_rounds, "of-0", 0)
    ask(two_rounds, "of-2", 2)
    ask(two_rounds, "of-3", 3)
    line = lineage(two_rounds.entries())
    assert tainted(line, "of-0") == {1, 2, 1001, 1002}
    assert tainted(line, "of-2") == {2, 1002}
    assert tainted(line, "of-3") == set()
    assert line.states[digest(2)].clients.keys() == {0, 1, 2}
    first = line.earliest_clean("of-2")
    assert first is not None and first.digest == digest(1)
    assert line.earliest_clean("of-0") is None
    assert line.descends("f" * 64, "of-0") and line.descends(digest(1), "unknown")


def test_what_is_served_is_clean_and_what_follows_from_it(two_rounds: Ledger) -> None:
    ask(two_rounds, "q", 0)
    begin(two_rounds, "q/unlearned", "q", 2)
    two_rounds.record_phase(
        PhaseRow("q/unlearned", "0:a", digest(2), digest(3), {"extras": digest(9), "client_seconds": {"0": 1}})
    )
    train(two_rounds, "q/unlearned", 1, 3, 4, 1, 2)
    train(two_rounds, "q/unlearned", 2, 4, 5, 1, 2)
    two_rounds.move_head("main", digest(5), SERVED, {"request": "q"})
    train(two_rounds, "main", 3, 5, 6, 1, 2)
    begin(two_rounds, "q/other", "q", 2)
    train(two_rounds, "q/other", 1, 2, 7, 1, 2)
    line = lineage(two_rounds.entries())
    assert tainted(line, "q") == {1, 2, 3, 4, 7, 9, 1001, 1002, 1004, 1005, 1007}
    assert not line.descends(digest(5), "q") and not line.descends(digest(6), "q")
    first = line.earliest_clean("q")
    assert first is not None and first.digest == digest(5)


def test_retraining_begins_with_nobodys_data(two_rounds: Ledger) -> None:
    ask(two_rounds, "q", 0)
    begin(two_rounds, "q/retrained", "q", 2, method="retrain")
    train(two_rounds, "q/retrained", 1, 2, 3, 1, 2)
    train(two_rounds, "q/retrained", 2, 3, 4, 0, 1, 2)  # what the target keeps
    line = lineage(two_rounds.entries())
    assert tainted(line, "q") == {1, 2, 1001, 1002}
    assert line.states[digest(4)].clients.keys() == {0, 1, 2}


def test_a_later_request_finds_what_was_clean_for_an_earlier_one(two_rounds: Ledger) -> None:
    ask(two_rounds, "first", 0)
    begin(two_rounds, "first/unlearned", "first", 2)
    train(two_rounds, "first/unlearned", 1, 2, 3, 1, 2)
    two_rounds.move_head("main", digest(3), SERVED, {"request": "first"})
    ask(two_rounds, "second", 1)
    begin(two_rounds, "second/unlearned", "second", 3)
    train(two_rounds, "second/unlearned", 1, 3, 4, 2)
    two_rounds.move_head("main", digest(4), SERVED, {"request": "second"})
    line = lineage(two_rounds.entries())
    assert 3 in tainted(line, "second") and 3 not in tainted(line, "first")
    assert not any(line.descends(digest(4), id) for id in ("first", "second"))


def test_requests_that_were_served_together_are_cleared_together(two_rounds: Ledger) -> None:
    ask(two_rounds, "a", 0)
    ask(two_rounds, "b", 1)
    begin(two_rounds, "a+b/unlearned", "a+b", 2)
    train(two_rounds, "a+b/unlearned", 1, 2, 3, 2)
    two_rounds.move_head("main", digest(3), SERVED, {"request": "a+b"})
    line = lineage(two_rounds.entries())
    assert not line.descends(digest(3), "a") and not line.descends(digest(3), "b")


def test_a_band_is_clean_of_what_was_filed_before_it(two_rounds: Ledger) -> None:
    ask(two_rounds, "q", 0)
    detail = {"key": "k", "number": 1, "digest": digest(50), "without": ["q"], "seed": 1}
    two_rounds.append_event(RECORDED, detail)
    ask(two_rounds, "later", 1)
    line = lineage(two_rounds.entries())
    assert not line.descends(digest(50), "q") and line.descends(digest(50), "later")


def test_a_digest_that_came_about_in_two_ways_is_judged_by_the_worse(two_rounds: Ledger) -> None:
    ask(two_rounds, "q", 0)
    begin(two_rounds, "q/unlearned", "q", 2)
    train(two_rounds, "q/unlearned", 1, 2, 3, 1)
    two_rounds.move_head("main", digest(3), SERVED, {"request": "q"})
    begin(two_rounds, "q/again", "q", 2)
    train(two_rounds, "q/again", 1, 2, 3, 1)
    assert lineage(two_rounds.entries()).descends(digest(3), "q")


def test_rows_of_an_earlier_format_are_put_in_order_by_their_times(
    two_rounds: Ledger, tmp_path: Path, rechained: Callable
) -> None:
    ask(two_rounds, "q", 0)
    begin(two_rounds, "q/unlearned", "q", 2)
    train(two_rounds, "q/unlearned", 1, 2, 3, 1, 2)
    two_rounds.move_head("main", digest(3), SERVED, {"request": "q"})
    train(two_rounds, "main", 3, 3, 4, 1, 2)
    entries = two_rounds.entries()
    tables = {"request": "requests", "branch": "branches", "round": "rounds", "event": "events"}
    order = list(tables)
    adopted = sorted((entry for entry in entries if entry.kind in tables), key=lambda one: order.index(one.kind))
    import json

    old = [
        replace(one, kind="adopted", body=json.dumps({"table": tables[one.kind], "row": one.content()}))
        for one in adopted
    ]
    line = lineage(rechained([entries[0], *old], 1))
    assert tainted(line, "q") == tainted(lineage(entries), "q") == {1, 2, 1001, 1002, 1003}

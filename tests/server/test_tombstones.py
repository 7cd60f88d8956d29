from __future__ import annotations

from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_tables import RoundRow
from fedunlearn.server.tombstones import BEGUN, FINISHED, tombstones


def begun(digest: str, request: str = "r1") -> dict:
    models = [{"digest": digest, "what": "round 1 of main"}]
    return {"request": request, "stage": BEGUN, "models": models, "files": [{"name": "report.html", "what": "report"}]}


def test_an_erasure_is_open_until_it_is_finished(filled: Ledger) -> None:
    assert tombstones(filled.entries()).open == set()
    filled.append(chain.TOMBSTONE, begun(f"{1:064x}"))
    found = tombstones(filled.entries())
    assert (found.open, found.finished) == ({"r1"}, set())
    assert found.models == {f"{1:064x}": "r1"} and found.files == {"report.html": "r1"}
    filled.append(chain.TOMBSTONE, {"request": "r1", "stage": FINISHED, "clients": {}})
    found = tombstones(filled.entries())
    assert (found.open, found.finished) == (set(), {"r1"}) and len(found.models) == 1


def test_a_model_that_is_made_again_is_there_again(filled: Ledger) -> None:
    filled.append(chain.TOMBSTONE, begun(f"{4:064x}"))
    filled.record_round(RoundRow("r1/unlearned", 2, f"{3:064x}", f"{4:064x}", (0,)))
    assert tombstones(filled.entries()).models == {}


def test_entries_that_say_nothing_are_left_out(filled: Ledger) -> None:
    filled.append(chain.TOMBSTONE, {"request": "r1"})
    filled.append(chain.TOMBSTONE, {"stage": BEGUN, "models": 3})
    assert tombstones(filled.entries()).models == {}

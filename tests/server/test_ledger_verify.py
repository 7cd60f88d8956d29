from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from fedunlearn.key_files import PrivateKey
from fedunlearn.ledger_head import KeyRotation, SignedHead
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_tables import PROJECTIONS, row_columns
from fedunlearn.server.ledger_verify import KINDS, Problem, server_keys, verify_chain, verify_heads, verify_tables

RUN, TIME = "ab" * 16, "2026-11-21T10:00:00+00:00"


def stored_rows(ledger: Ledger) -> dict:
    with ledger._database.read() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(
                    select(*[table.c[name] for name in row_columns(table)]).order_by(*table.primary_key.columns)
                ).mappings()
            ]
            for table in PROJECTIONS
        }


def head_of(entry: Entry, key: PrivateKey, run: str = RUN) -> SignedHead:
    return SignedHead(run, entry.number, entry.hash, TIME, "").signed(key)


@pytest.fixture
def key(filled: Ledger) -> PrivateKey:
    """The run's key, which the ledger names."""
    made = PrivateKey.generate()
    filled.append(chain.SERVER_KEY, {"public_key": made.public_key})
    return made


def only(problems: list[Problem], kind: str) -> str:
    """The sentence of the one problem that was found."""
    assert [problem.kind for problem in problems] == [kind], problems
    assert kind in KINDS
    return problems[0].sentence


def test_an_untouched_ledger_holds(filled: Ledger, key: PrivateKey) -> None:
    entries = filled.entries()
    keys = server_keys(entries)
    assert verify_chain(entries) == [] and keys.problems == ()
    assert verify_heads(entries, {"client 0": [head_of(entries[-1], key)]}, keys) == []
    assert verify_tables(entries, stored_rows(filled)) == []


@pytest.mark.parametrize("field", ["time", "kind", "body"])
def test_an_edited_entry_is_named(filled: Ledger, field: str) -> None:
    entries = filled.entries()
    entries[4] = replace(entries[4], **{field: getattr(entries[4], field) + " "})
    assert "entry 5" in only(verify_chain(entries), "edited")


def test_an_edited_body_is_not_taken_for_a_wrong_table(filled: Ledger) -> None:
    entries = filled.entries()
    body = {**entries[4].content(), "participants": [0]}
    entries[4] = replace(entries[4], body=json.dumps(body))
    only(verify_chain(entries), "edited")
    assert verify_tables(entries, stored_rows(filled)) == []


@pytest.mark.parametrize(("first", "last", "named"), [(5, 5, "entry 5 is"), (3, 6, "entries 3 to 6 are")])
def test_deleted_entries_are_named(filled: Ledger, first: int, last: int, named: str) -> None:
    entries = [entry for entry in filled.entries() if not first <= entry.number <= last]
    assert f"{named} missing" in only(verify_chain(entries), "deleted")


def test_the_first_entries_can_be_missing_too(filled: Ledger) -> None:
    assert "entries 1 to 2 are missing" in only(verify_chain(filled.entries()[2:]), "deleted")
    only(verify_chain([]), "deleted")


def test_exchanged_entries_are_named(filled: Ledger) -> None:
    entries = filled.entries()
    entries[3], entries[7] = replace(entries[7], number=4), replace(entries[3], number=8)
    problems = verify_chain(entries)
    assert [problem.kind for problem in problems] == ["reordered", "reordered"]
    assert "entry 4 was written as entry 8" in problems[0].sentence


def test_lines_in_another_order_are_named(filled: Ledger) -> None:
    entries = filled.entries()
    entries[3], entries[4] = entries[4], entries[3]
    assert "entry 4 stands after entry 5" in only(verify_chain(entries), "reordered")


def test_an_entry_with_a_hash_to_fit_breaks_the_chain_after_it(filled: Ledger) -> None:
    entries = filled.entries()
    forged = replace(entries[4], body="{}")
    entries[4] = replace(forged, hash=forged.computed_hash())
    assert "entry 6 does not follow entry 5" in only(verify_chain(entries), "rewritten")


def test_a_cut_end_is_found_by_a_head(filled: Ledger, key: PrivateKey) -> None:
    entries = filled.entries()
    heads = {"client 2": [head_of(entries[-1], key)], "client 3": [head_of(entries[-2], key)]}
    cut = entries[:-3]
    assert verify_chain(cut) == []
    sentence = only(verify_heads(cut, heads, server_keys(entries)), "truncated")
    assert f"client 2 (and 1 more) was shown entry {len(entries)}" in sentence
    assert f"ends with entry {len(cut)}" in sentence


def test_a_rewritten_chain_is_found_by_heads_even_if_the_run_itself_signs_it(
    filled: Ledger, key: PrivateKey, rechained: Callable
) -> None:
    entries = filled.entries()
    for _ in range(3):
        filled.append_event("later")
    entries = filled.entries()
    heads = {"client 0": [head_of(entries[index], key) for index in (-4, -2, -1)]}
    entries[-3] = replace(entries[-3], body=entries[-3].body.replace("later", "never"))
    forged = rechained(entries, len(entries) - 2)
    assert verify_chain(forged) == []
    sentence = only(verify_heads(forged, heads, server_keys(forged)), "rewritten")
    assert f"rewritten after entry {len(entries) - 3}" in sentence


def test_a_forged_head_is_named(filled: Ledger, key: PrivateKey) -> None:
    entries = filled.entries()
    head = head_of(entries[-1], key)
    heads = {"client 1": [replace(head, hash="f" * 64)]}
    assert "of client 1 is forged" in only(verify_heads(entries, heads, server_keys(entries)), "forged-head")
    stranger = {"client 1": [head_of(entries[-1], PrivateKey.generate())]}
    assert "does not name" in only(verify_heads(entries, stranger, server_keys(entries)), "forged-head")


def test_another_runs_ledger_in_its_place_is_found(filled: Ledger, key: PrivateKey) -> None:
    entries = filled.entries()
    heads = {"client 1": [head_of(entries[-1], key, run="cd" * 16)]}
    assert "it was replaced" in only(verify_heads(entries, heads, server_keys(entries)), "rewritten")


def test_a_head_counts_with_the_key_of_its_time(filled: Ledger, key: PrivateKey) -> None:
    old_head = head_of(filled.entries()[-1], key)
    following = PrivateKey.generate()
    rotation = KeyRotation(RUN, key.public_key, following.public_key, TIME).signed(key)
    filled.append(chain.KEY_ROTATION, rotation.document())
    entries = filled.entries()
    keys = server_keys(entries)
    assert keys.problems == ()
    assert verify_heads(entries, {"client 0": [old_head, head_of(entries[-1], following)]}, keys) == []
    late = {"client 0": [head_of(entries[-1], key)]}
    only(verify_heads(entries, late, keys), "forged-head")


def test_a_change_of_keys_that_the_old_key_did_not_sign_is_named(filled: Ledger, key: PrivateKey) -> None:
    thief = PrivateKey.generate()
    rotation = KeyRotation(RUN, key.public_key, thief.public_key, TIME).signed(thief)
    filled.append(chain.KEY_ROTATION, rotation.document())
    assert "not signed with the old key" in only(list(server_keys(filled.entries()).problems), "key")


TABLE_CHANGES = {
    "UPDATE rounds SET digest_after = 'x' WHERE number = 2 AND branch = 'main'": "round 2 of branch 'main' has another",
    "UPDATE rounds SET seconds = seconds + 1e-12": "another seconds in the table than in entry 4",
    "UPDATE rounds SET participants = '[0]' WHERE number = 1 AND branch = 'main'": "another participants",
    "UPDATE requests SET state = 'pending'": "request 'r1' has another state in the table than in entry 6, 8, 15",
    "UPDATE branches SET head = 'x' WHERE name = 'main'": "branch 'main' has another head",
    "DELETE FROM phases": "phase '0:query' of branch 'r1/unlearned' is missing",
    "DELETE FROM requests": "request 'r1' is missing in the table",
    "DELETE FROM events WHERE id = 6": "the event 'client-dropped' of",
    "UPDATE events SET detail = '{}' WHERE id = 6": "has another detail",
    "UPDATE client_keys SET public_key = 'x'": "the key of client 0 has another public_key",
    "INSERT INTO client_keys VALUES (9, 'k', 't')": "the key of client 9 is in the table, and no entry tells of it",
    "UPDATE rounds SET id = 100 - id": "the rows of the table rounds are in another order",
}


@pytest.mark.parametrize(("statement", "named"), TABLE_CHANGES.items())
def test_a_table_that_was_changed_is_named(filled: Ledger, tampered: Callable, statement: str, named: str) -> None:
    with tampered() as database:
        database.execute(statement)
    entries = filled.entries()
    problems = verify_tables(entries, stored_rows(filled))
    assert {problem.kind for problem in problems} == {"projection"}
    assert any(named in problem.sentence for problem in problems), problems
    assert verify_chain(entries) == []


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path, start_script: Callable) -> None:
    script = """
import sys
from fedunlearn.server.ledger import Ledger
sys.stdin.readline()
ledger = Ledger(sys.argv[1])
for number in range(15):
    with ledger.transaction():
        ledger.append_event(sys.argv[2], {"number": number})
        ledger.append("note", {"from": sys.argv[2]})
"""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    processes = [start_script(script, url, name) for name in ("a", "b", "c")]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    ledger = Ledger(url)
    entries = ledger.entries()
    assert len(entries) == 1 + 3 * 2 * 15
    assert verify_chain(entries) == [] and verify_tables(entries, stored_rows(ledger)) == []

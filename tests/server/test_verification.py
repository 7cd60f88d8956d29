"""A run that was tampered with: what was done is found and named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fedunlearn.clients.heads import HeadStore
from fedunlearn.errors import RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.key_files import PrivateKey, make_key_file, read_key_file
from fedunlearn.ledger_head import SignedHead
from fedunlearn.server import verification
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.verification import verify_run

Rechain = Callable[[list[Entry], int], list[Entry]]
ReplaceEntries = Callable[[sqlite3.Connection, list[Entry]], None]


@contextmanager
def database_of(federation: Federation) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(federation.folder / "ledger.sqlite")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    connection.commit()
    connection.close()


def entries_of(federation: Federation) -> list[Entry]:
    return federation._session().ledger.entries()


def test_an_untouched_run_holds(audited: Federation) -> None:
    found = audited.verify_ledger()
    assert found.problems == () and found.holds and found.notes == ()
    assert found.entries == len(entries_of(audited)) and found.heads >= 9 and found.models >= 5


def edit_an_entry(run: Federation, **_: object) -> None:
    with database_of(run) as database:
        database.execute("UPDATE entries SET body = replace(body, '[0,1,2]', '[1,2]') WHERE kind = 'round'")


def delete_an_entry(run: Federation, **_: object) -> None:
    with database_of(run) as database:
        database.execute("DELETE FROM entries WHERE number = 5")


def exchange_two_entries(run: Federation, replace_entries: ReplaceEntries, **_: object) -> None:
    entries = entries_of(run)
    entries[2], entries[6] = replace(entries[6], number=3), replace(entries[2], number=7)
    with database_of(run) as database:
        replace_entries(database, entries)


def cut_the_end(run: Federation, **_: object) -> None:
    with database_of(run) as database:
        database.execute("DELETE FROM entries WHERE number > (SELECT max(number) - 4 FROM entries)")


def rewrite_from_the_middle(run: Federation, rechained: Rechain, replace_entries: ReplaceEntries, **_: object) -> None:
    """Whoever has the database alone: contents, hashes and tables all fit again."""
    entries = entries_of(run)
    index = next(i for i, entry in enumerate(entries) if entry.kind == "round")
    entries[index] = replace(entries[index], body=entries[index].body.replace("[0,1,2]", "[1,2]"))
    with database_of(run) as database:
        replace_entries(database, rechained(entries, index + 1))
        database.execute("UPDATE rounds SET participants = '[1, 2]' WHERE id = 1")


def rewrite_all_and_sign_it(run: Federation, rechained: Rechain, replace_entries: ReplaceEntries, **_: object) -> None:
    """Whoever runs the server, its key included; only what the clients keep is out of reach."""
    entries = [entry for entry in entries_of(run) if entry.kind != "event"]
    with database_of(run) as database:
        replace_entries(database, rechained(entries, 1))
        database.execute("DELETE FROM events")


def swap_a_model(run: Federation, **_: object) -> None:
    models = sorted((run.folder / "models").glob("*.safetensors"))
    models[0].write_bytes(models[1].read_bytes())


def delete_a_model(run: Federation, **_: object) -> None:
    sorted((run.folder / "models").glob("*.safetensors"))[0].unlink()


def change_a_table(run: Federation, **_: object) -> None:
    with database_of(run) as database:
        database.execute("UPDATE requests SET count = 1")


def forge_a_head(run: Federation, **_: object) -> None:
    path = run.folder / "clients" / "1" / "heads.json"
    content = json.loads(path.read_text())
    content["heads"][-1]["number"] -= 1
    path.write_text(json.dumps(content))


def sign_a_head_with_another_key(run: Federation, **_: object) -> None:
    path = run.folder / "clients" / "1" / "heads.json"
    content = json.loads(path.read_text())
    content["heads"][-1] = SignedHead.of(content["heads"][-1]).signed(PrivateKey.generate()).document()
    path.write_text(json.dumps(content))


def swap_the_key(run: Federation, **_: object) -> None:
    (run.folder / "server-key.pem").unlink()
    make_key_file(run.folder / "server-key.pem")


def open_the_key(run: Federation, **_: object) -> None:
    (run.folder / "server-key.pem").chmod(0o644)


def edit_the_audit(run: Federation, **_: object) -> None:
    path = run.folder / "audit" / "audit-client-0-1.json"
    path.write_text(path.read_text().replace("inconclusive", "pass"))


def damage_the_heads(run: Federation, **_: object) -> None:
    (run.folder / "clients" / "2" / "heads.json").write_text('{"heads": 3}')


TAMPERING = {
    edit_an_entry: ("edited", "(round, "),
    delete_an_entry: ("deleted", "entry 5 is missing"),
    exchange_two_entries: ("reordered", "entry 3 was written as entry 7"),
    cut_the_end: ("truncated", "the end was cut off"),
    rewrite_from_the_middle: ("rewritten", "is not the one that client 0 (and 2 more) was shown"),
    rewrite_all_and_sign_it: ("rewritten", "is not the one that client 0 (and 2 more) was shown"),
    swap_a_model: ("model", "is not what the ledger says"),
    delete_a_model: ("model", "is missing, and no tombstone says that it was erased"),
    change_a_table: ("projection", "request 'client-0-1' has another count in the table than in entry"),
    forge_a_head: ("forged-head", "of client 1 is forged"),
    sign_a_head_with_another_key: ("forged-head", "with a key that the ledger does not name"),
    swap_the_key: ("key", "it was swapped"),
    open_the_key: ("key", "may be read by others"),
    edit_the_audit: ("audit", "audit/audit-client-0-1.json is not the one that entry"),
    damage_the_heads: ("heads", "the heads of client 2 cannot be read"),
}


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_and_named(
    audited: Federation, tamper: Callable[..., None], rechained: Rechain, replace_entries: ReplaceEntries
) -> None:
    kind, named = TAMPERING[tamper]
    tamper(audited, rechained=rechained, replace_entries=replace_entries)
    found = Federation.open(audited.folder).verify_ledger()
    assert not found.holds
    assert [problem for problem in found.problems if problem.kind == kind and named in problem.sentence], found.problems


def test_one_edit_is_one_problem(audited: Federation) -> None:
    with database_of(audited) as database:
        database.execute("UPDATE entries SET time = 'yesterday' WHERE number = 6")
    assert [problem.kind for problem in audited.verify_ledger().problems] == ["edited"]


def test_nothing_is_mended_by_looking(audited: Federation) -> None:
    with database_of(audited) as database:
        database.execute("DELETE FROM entries")
        database.execute("DROP TABLE alembic_version")
    with pytest.raises(RunFolderError, match="chains begin with format 2"):
        verify_run(audited._folder)
    (audited.folder / "ledger.sqlite").unlink()
    with pytest.raises(RunFolderError, match="has no ledger yet"):
        verify_run(audited._folder)
    assert not (audited.folder / "ledger.sqlite").exists()


def test_a_ledger_that_is_begun_anew_is_found_by_heads(audited: Federation) -> None:
    """Entries and version gone, it looks like one of the first format, and is taken over as such."""
    with database_of(audited) as database:
        database.execute("DROP TABLE entries")
        database.execute("DROP TABLE alembic_version")
        for table in ("rounds", "phases"):
            for column in ("seed", "mask"):
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    again = Federation.open(audited.folder)
    assert again.requests()
    assert {"rewritten", "truncated"} & {problem.kind for problem in again.verify_ledger().problems}


def test_heads_from_elsewhere_count_too(audited: Federation, tmp_path: Path) -> None:
    copy = tmp_path / "handed-over.json"
    copy.write_bytes((audited.folder / "clients" / "1" / "heads.json").read_bytes())
    for path in (audited.folder / "clients").glob("*/heads.json"):
        path.unlink()
    alone = audited.verify_ledger()
    assert alone.holds and alone.heads == 0 and "no client holds a head yet" in alone.notes[0]
    assert audited.verify_ledger([copy]).heads > 0
    cut_the_end(audited)
    assert not [p for p in audited.verify_ledger().problems if p.kind == "truncated"]
    [problem] = [p for p in audited.verify_ledger([copy]).problems if p.kind == "truncated"]
    assert "handed-over.json was shown entry" in problem.sentence


def test_models_need_not_be_read(audited: Federation) -> None:
    swap_a_model(audited)
    assert audited.verify_ledger(with_models=False).holds


def test_a_key_with_a_password_is_left_alone(audited: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEDUNLEARN_KEY_PASSWORD", "FEDUNLEARN_KEY_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    audited.rotate_key(b"open sesame")
    found = audited.verify_ledger()
    assert found.holds and "protected by a password" in found.notes[0]
    monkeypatch.setenv("FEDUNLEARN_KEY_PASSWORD", "open sesame")
    assert audited.verify_ledger().notes == ()


def test_clients_follow_a_new_key(audited: Federation) -> None:
    before = read_key_file(audited.folder / "server-key.pem").public_key
    after = audited.rotate_key()
    audited.compare(retrain=False)
    known = HeadStore(audited.folder / "clients" / "0").known()
    assert known is not None and (known.first_key, known.key) == (before, after)
    assert audited.verify_ledger().holds
    assert audited._session().ledger.events("head-refused") == []


def test_a_client_that_refuses_a_head_is_written_down(audited: Federation) -> None:
    store = HeadStore(audited.folder / "clients" / "1")
    key = read_key_file(audited.folder / "server-key.pem")
    store.accept(SignedHead(audited._session().ledger.run, 9999, "f" * 64, "2026", "").signed(key), [])
    audited.compare(retrain=False)
    [event] = audited._session().ledger.events("head-refused")
    assert event.detail["client"] == 1 and "has gone back" in event.detail["why"]
    assert "truncated" in {problem.kind for problem in audited.verify_ledger().problems}


def test_a_written_audit_that_is_not_in_its_place_yet_counts(audited: Federation) -> None:
    path = audited.folder / "audit" / "audit-client-0-1.json"
    path.rename(path.with_name("audit-client-0-1-next.json"))
    assert audited.verify_ledger().holds


def test_what_is_referenced_is_told_apart(audited: Federation) -> None:
    digests = verification.referenced(entries_of(audited))
    assert audited._session().ledger.branch("main").head in digests  # type: ignore[union-attr]
    assert all(len(digest) == 64 and what for digest, what in digests.items())

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fedunlearn.errors import RunFolderError
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_database import LedgerDatabase, plain


def test_write_ahead_and_durable(tmp_path: Path) -> None:
    database = LedgerDatabase(f"sqlite:///{tmp_path}/ledger.sqlite")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    database.close()


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.append_event("before")
    seen: list[int] = []
    with ledger.transaction():
        ledger.append_event("within")
        reader = threading.Thread(target=lambda: seen.append(len(ledger.events())))
        reader.start()
        reader.join(5)
        assert seen == [1]
        assert len(ledger.events()) == 2
    ledger.close()


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    writer = threading.Thread(target=lambda: ledger.append_event("second"))
    with ledger.transaction():
        writer.start()
        ledger.append_event("first")
        writer.join(0.2)
        assert writer.is_alive()
    writer.join(5)
    assert [event.kind for event in ledger.events()] == ["first", "second"]
    ledger.close()


def test_full_disk_is_one_sentence_and_keeps_what_was(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.append_event("kept")
    with pytest.raises(RunFolderError, match="no space is left to write"), ledger.transaction():
        with ledger._database.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        ledger.append_event("large", {"filling": "x" * 100_000})
    assert [event.kind for event in ledger.events()] == ["kept"]
    ledger.close()


def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(RunFolderError, match="it is damaged"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be used"):
        Ledger(f"sqlite:///{tmp_path}/none/ledger.sqlite")


@pytest.mark.parametrize("url", ["", "ledger.sqlite", "nonsense://user:secret@host/x"])
def test_what_is_no_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(RunFolderError, match="expected an SQLAlchemy URL") as caught:
        LedgerDatabase(url)
    assert "secret" not in str(caught.value)


def test_plain_values() -> None:
    value = {1: (np.float64(0.5), np.arange(2)), "a": {3, 1}, "b": float("inf"), "c": [None, True, "x"]}
    assert plain(value) == {"1": [0.5, [0, 1]], "a": [1, 3], "b": None, "c": [None, True, "x"]}

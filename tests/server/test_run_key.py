from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from fedunlearn.announcement import signature_holds
from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.key_files import KeyFileError, is_encrypted, read_key_file
from fedunlearn.ledger_head import last_key
from fedunlearn.server import run_key
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_verify import server_keys
from fedunlearn.server.run_key import RunKey, new_password, password_for, public_keys, read_password


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (run_key.PASSWORD, run_key.PASSWORD_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server-key.pem"


def test_the_key_is_made_once_and_named_in_the_ledger(filled: Ledger, path: Path) -> None:
    first, second = RunKey.of(path, filled), RunKey.of(path, filled)
    assert first.public_key == second.public_key
    assert public_keys(filled) == [first.public_key]
    assert [entry.content() for entry in filled.entries("server-key")] == [{"public_key": first.public_key}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_head_is_the_last_entry_signed(filled: Ledger, path: Path) -> None:
    key = RunKey.of(path, filled)
    head, last = key.head(), filled.last_entry()
    assert last is not None and (head.number, head.hash, head.run) == (last.number, last.hash, filled.run)
    assert head.holds() and head.public_key == key.public_key


def test_another_key_in_its_place_is_refused(filled: Ledger, path: Path) -> None:
    RunKey.of(path, filled)
    path.unlink()
    with pytest.raises(RunFolderError, match="is gone, and the run's ledger names it"):
        RunKey.of(path, filled)
    other = Ledger(f"sqlite:///{path.parent}/other.sqlite")
    RunKey.of(path, other)
    with pytest.raises(RunFolderError, match="is not the key that the run's ledger names"):
        RunKey.of(path, filled)


def test_a_key_that_others_may_read_is_refused(filled: Ledger, path: Path) -> None:
    RunKey.of(path, filled)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="may be read by others"):
        RunKey.of(path, filled)


def test_the_old_key_names_the_new_one(filled: Ledger, path: Path) -> None:
    first = RunKey.of(path, filled)
    second = first.rotate(path)
    third = RunKey.of(path, filled).rotate(path)
    assert len({first.public_key, second.public_key, third.public_key}) == 3
    assert not first.is_current and third.is_current
    found = RunKey.of(path, filled)
    assert found.public_key == third.public_key
    assert last_key(first.public_key, filled.run, found.rotations) == third.public_key
    keys = server_keys(filled.entries())
    assert keys.problems == () and [key for _, key in keys.in_force] == public_keys(filled)
    assert not path.with_name("server-key-next.pem").exists()


@pytest.mark.parametrize("cut_off", ["before the ledger", "after the ledger"])
def test_a_rotation_that_is_cut_off_leaves_one_key_that_works(
    filled: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: str
) -> None:
    first = RunKey.of(path, filled)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if cut_off == "before the ledger":
            patch.setattr(filled, "append", fail)
        else:
            patch.setattr(os, "replace", _fail_for(path, os.replace))
        first.rotate(path)
    after = RunKey.of(path, filled)
    assert (after.public_key == first.public_key) == (cut_off == "before the ledger")
    assert after.public_key == public_keys(filled)[-1] and after.head().holds()
    assert after.rotate(path).is_current


def _fail_for(path: Path, replace):
    def fail(source, target):
        if Path(target) == path:
            raise KeyboardInterrupt
        replace(source, target)

    return fail


def test_a_password_comes_out_of_the_environment(
    filled: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    RunKey.of(path, filled).rotate(path, b"open sesame")
    assert is_encrypted(path)
    with pytest.raises(KeyFileError, match="protected by a password"):
        RunKey.of(path, filled)
    monkeypatch.setenv(run_key.PASSWORD, "open barley")
    with pytest.raises(KeyFileError, match="does not open") as caught:
        RunKey.of(path, filled)
    monkeypatch.setenv(run_key.PASSWORD, "open sesame")
    key = RunKey.of(path, filled)
    assert signature_holds(key.public_key, key.sign(b"words"), b"words")
    file = path.parent / "password"
    file.write_text("open sesame\nand a second line\n")
    file.chmod(0o600)
    monkeypatch.setenv(run_key.PASSWORD, "wrong")
    monkeypatch.setenv(run_key.PASSWORD_FILE, str(file))
    assert RunKey.of(path, filled).public_key == key.public_key
    for word in ("sesame", "barley"):
        assert word not in caplog.text and word not in str(caught.value)
        assert all(word not in entry.body for entry in filled.entries())


def test_a_password_file_that_others_may_read_is_refused(path: Path) -> None:
    path.write_text("open sesame")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="may be read by others"):
        read_password(path)
    path.chmod(0o600)
    assert read_password(path) == b"open sesame"
    path.write_text("\n")
    with pytest.raises(RunFolderError, match="holds no password"):
        read_password(path)


def test_a_password_is_asked_for_at_a_terminal_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["once", "twice", "same", "same", "for the key"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    with pytest.raises(RunFolderError, match="the two passwords differ"):
        new_password(None, True)
    assert new_password(None, True) == b"same"
    assert new_password(None, False) is None
    with pytest.raises(SettingsError, match="not both"):
        new_password(path, True)
    assert password_for(path, "Password of") is None  # a test has no terminal
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    assert password_for(path) is None
    assert password_for(path, "Password of") == b"for the key"


def test_a_copy_of_a_run_has_the_same_key(filled: Ledger, path: Path, tmp_path: Path) -> None:
    public = RunKey.of(path, filled).public_key
    copied = Path(shutil.copy2(path, tmp_path / "copy.pem"))
    assert read_key_file(copied).public_key == public

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedunlearn.announcement import signature_holds
from fedunlearn.key_files import (
    KeyFileError,
    PrivateKey,
    check_owner_only,
    is_encrypted,
    make_key_file,
    read_key_file,
    write_key_file,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "key.pem"


def test_a_key_is_made_once(path: Path) -> None:
    assert make_key_file(path) and not make_key_file(path)
    key = read_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signature_holds(key.public_key, key.sign(b"words"), b"words")
    assert not signature_holds(key.public_key, key.sign(b"words"), b"other words")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o644])
def test_a_key_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    make_key_file(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"may be read by others .mode {mode:03o}.: expected 600"):
        read_key_file(path)
    with pytest.raises(KeyFileError):
        check_owner_only(path)


def test_a_password_protects_the_key(path: Path) -> None:
    key = PrivateKey.generate()
    path.parent.mkdir()
    write_key_file(path, key, b"open sesame")
    assert is_encrypted(path) and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key_file(path, b"open sesame").public_key == key.public_key
    with pytest.raises(KeyFileError, match="protected by a password and none was given"):
        read_key_file(path)
    with pytest.raises(KeyFileError, match="does not open with this password") as caught:
        read_key_file(path, b"open barley")
    assert "barley" not in str(caught.value)


def test_a_password_for_a_key_without_one_does_no_harm(path: Path) -> None:
    make_key_file(path)
    assert not is_encrypted(path)
    assert read_key_file(path, b"anything").public_key == read_key_file(path).public_key


def test_a_damaged_key_says_so(path: Path) -> None:
    make_key_file(path)
    path.write_bytes(path.read_bytes().replace(b"PRIVATE", b"PIRATE"))
    with pytest.raises(KeyFileError, match="is not an Ed25519 private key"):
        read_key_file(path)

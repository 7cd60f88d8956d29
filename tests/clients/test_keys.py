from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedunlearn.announcement import signature_holds
from fedunlearn.clients.keys import ClientKey
from fedunlearn.errors import RunFolderError


def test_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first, second = ClientKey.of(tmp_path / "0"), ClientKey.of(tmp_path / "0")
    assert first.public_key == second.public_key
    assert ClientKey.of(tmp_path / "1").public_key != first.public_key
    assert stat.S_IMODE((tmp_path / "0" / "key.pem").stat().st_mode) == 0o600


def test_signature_holds_for_that_message_and_key_only(tmp_path: Path) -> None:
    key, other = ClientKey.of(tmp_path / "0"), ClientKey.of(tmp_path / "1")
    signature = key.sign(b"message")
    assert signature_holds(key.public_key, signature, b"message")
    assert not signature_holds(key.public_key, signature, b"another message")
    assert not signature_holds(other.public_key, signature, b"message")


def foreign_key() -> bytes:
    return X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("content", [b"", b"not a key", foreign_key()])
def test_damaged_key_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(RunFolderError, match="is not an Ed25519 private key"):
        ClientKey.of(tmp_path)
    assert (tmp_path / "key.pem").read_bytes() == content


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    ClientKey.of(tmp_path)
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(RunFolderError, match="may be read by others"):
        ClientKey.of(tmp_path)

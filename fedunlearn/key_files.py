"""Ed25519 private keys in files that nobody but their owner may read."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedunlearn.errors import RunFolderError
from fedunlearn.files import atomic_create_bytes, atomic_write_bytes, make_folder, told_as_sentence

OWNER_ONLY = 0o600


class KeyFileError(RunFolderError):
    """A key file is no key, is open to others, or its password is missing or wrong."""


class PrivateKey:
    """An Ed25519 private key that signs and is never shown."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public_key: str = base64.b64encode(raw).decode()
        """The public half, 32 bytes as base64."""

    @staticmethod
    def generate() -> PrivateKey:
        """Return a new key from the system's randomness."""
        return PrivateKey(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> str:
        """Return the base64 signature over `message`."""
        return base64.b64encode(self._private.sign(message)).decode()

    def pem(self, password: bytes | None = None) -> bytes:
        """Return the key as PKCS #8, encrypted if there is a password."""
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def make_key_file(path: Path, password: bytes | None = None) -> bool:
    """Put a new key into `path` unless a file is there; return whether it was made.

    Raises:
        RunFolderError: the file cannot be written.
    """
    make_folder(path.parent)
    return atomic_create_bytes(path, PrivateKey.generate().pem(password), mode=OWNER_ONLY)


def write_key_file(path: Path, key: PrivateKey, password: bytes | None = None) -> None:
    """Replace what is in `path` with `key`. Raises RunFolderError."""
    atomic_write_bytes(path, key.pem(password), mode=OWNER_ONLY)


def read_key_file(path: Path, password: bytes | None = None) -> PrivateKey:
    """Return the key in `path`.

    Raises:
        KeyFileError: others than its owner may read the file; the password is missing or wrong; it is no
            Ed25519 key.
        RunFolderError: the file is missing or cannot be read.
    """
    check_owner_only(path)
    with told_as_sentence(path, "read"):
        data = path.read_bytes()
    if b"ENCRYPTED" in data and not password:
        raise KeyFileError(f"{path} is protected by a password and none was given: {HOW_TO_GIVE_A_PASSWORD}.")
    try:
        # A password for a key that has none is no mistake of consequence.
        private = serialization.load_pem_private_key(data, password if b"ENCRYPTED" in data else None)
    except (ValueError, TypeError) as error:
        if b"ENCRYPTED" in data:
            raise KeyFileError(f"{path} does not open with this password: {HOW_TO_GIVE_A_PASSWORD}.") from error
        raise _no_key(path) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key(path)
    return PrivateKey(private)


def is_encrypted(path: Path) -> bool:
    """Return whether the key in `path` needs a password. Raises RunFolderError."""
    with told_as_sentence(path, "read"):
        return b"ENCRYPTED" in path.read_bytes()


def check_owner_only(path: Path) -> None:
    """Raise KeyFileError if anybody but its owner may read or write `path`."""
    if os.name != "posix":  # elsewhere the mode says nothing of who may read
        return
    with told_as_sentence(path, "read"):
        mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(
            f"{path} may be read by others (mode {mode:03o}): expected {OWNER_ONLY:03o}; if nobody has copied it, run "
            f"`chmod {OWNER_ONLY:03o} {path}`, and otherwise replace the key."
        )


HOW_TO_GIVE_A_PASSWORD = (
    "put it into a file of mode 600 and name that in FEDUNLEARN_KEY_PASSWORD_FILE, or put it into "
    "FEDUNLEARN_KEY_PASSWORD, or run the command in a terminal, where it is asked for"
)


def _no_key(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} is not an Ed25519 private key: put back the key that was there, by which the other side knows it."
    )

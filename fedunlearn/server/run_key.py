"""The run's own key: it signs the ledger's heads and the certificates, and names its successor."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Final

from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.files import told_as_sentence
from fedunlearn.key_files import (
    PrivateKey,
    check_owner_only,
    is_encrypted,
    make_key_file,
    read_key_file,
    write_key_file,
)
from fedunlearn.ledger_head import KeyRotation, SignedHead
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_database import now

PASSWORD: Final = "FEDUNLEARN_KEY_PASSWORD"
PASSWORD_FILE: Final = "FEDUNLEARN_KEY_PASSWORD_FILE"


class RunKey:
    """The private key in `server-key.pem`, and what the ledger says of it."""

    def __init__(self, key: PrivateKey, ledger: Ledger, rotations: list[KeyRotation]) -> None:
        """Use `RunKey.of`."""
        self._key = key
        self._ledger = ledger
        self.rotations = rotations
        """How this key came after the run's first, oldest first."""

    @staticmethod
    def of(path: Path, ledger: Ledger) -> RunKey:
        """Return the run's key. It is made at first use, and its public half is then written into the ledger.

        Raises:
            KeyFileError: the file is open to others, or its password is missing or wrong.
            RunFolderError: the key is not the one that the ledger names.
        """
        named = public_keys(ledger)
        if not named and not path.exists():
            make_key_file(path)  # another process may have been first: its key counts
        if not path.exists():
            raise RunFolderError(
                f"{path} is gone, and the run's ledger names it ({named[-1][:12]}…): put back a copy of the key; "
                f"without it nothing can be signed."
            )
        key = _open(path)
        with ledger.transaction():
            named = public_keys(ledger)
            if not named:
                ledger.append(chain.SERVER_KEY, {"public_key": key.public_key})
                named = [key.public_key]
        if key.public_key != named[-1] and _next(path).exists():
            # A rotation that the ledger knows of was cut off before the new key was in its place.
            following = _open(_next(path))
            if following.public_key == named[-1]:
                with told_as_sentence(path, "replaced"):
                    os.replace(_next(path), path)
                key = following
        if key.public_key != named[-1]:
            raise RunFolderError(
                f"{path} is not the key that the run's ledger names ({named[-1][:12]}…): put back the run's own key."
            )
        return RunKey(key, ledger, rotations(ledger))

    @property
    def public_key(self) -> str:
        """The public half, base64."""
        return self._key.public_key

    @property
    def is_current(self) -> bool:
        """Whether the ledger names no later key."""
        return public_keys(self._ledger)[-1:] == [self.public_key]

    def sign(self, message: bytes) -> str:
        """Return the base64 signature over `message`."""
        return self._key.sign(message)

    def head(self) -> SignedHead:
        """Return the ledger's last entry, signed now."""
        last = self._ledger.last_entry()
        if last is None:
            raise RunFolderError("the ledger's entries have been deleted; see `fedunlearn ledger verify`.")
        return SignedHead(self._ledger.run, last.number, last.hash, now(), "").signed(self._key)

    def rotate(self, path: Path, password: bytes | None = None) -> RunKey:
        """Make a new key, have this one sign that it follows, write that into the ledger, and put it in place.

        A process that is killed in between leaves either key working; the old one is gone afterwards.

        Args:
            path: of the key file. password: protects the new key; None: it has none.
        """
        following = PrivateKey.generate()
        rotation = KeyRotation(self._ledger.run, self.public_key, following.public_key, now()).signed(self._key)
        write_key_file(_next(path), following, password)
        self._ledger.append(chain.KEY_ROTATION, rotation.document())
        with told_as_sentence(path, "replaced"):
            os.replace(_next(path), path)
        return RunKey(following, self._ledger, [*self.rotations, rotation])


def public_keys(ledger: Ledger) -> list[str]:
    """The run's public keys as the ledger names them, the first first."""
    first = [str(entry.content()["public_key"]) for entry in ledger.entries(chain.SERVER_KEY)[:1]]
    return first + [rotation.new for rotation in rotations(ledger)]


def rotations(ledger: Ledger) -> list[KeyRotation]:
    """The changes of the run's key, oldest first."""
    return [KeyRotation.of(entry.content()) for entry in ledger.entries(chain.KEY_ROTATION)]


def password_for(path: Path, asked: str | None = None) -> bytes | None:
    """Return the password that the environment names, or that a person at a terminal types; None if neither.

    Args:
        asked: what to ask for at a terminal; None: nothing is asked.

    Raises:
        KeyFileError: the file with the password may be read by others.
    """
    if (file := os.environ.get(PASSWORD_FILE)) is not None:
        return read_password(Path(file))
    if (given := os.environ.get(PASSWORD)) is not None:
        return given.encode()
    if asked is not None and sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"{asked} {path}: ").encode()
    return None


def new_password(file: Path | None, asked: bool) -> bytes | None:
    """Return the password for a new key: out of a file, or typed twice at a terminal; None: it has none.

    Raises:
        SettingsError: both ways were asked for. RunFolderError: the file cannot be used, or what was typed differs.
    """
    if file is not None and asked:
        raise SettingsError("give the new key's password in a file or type it, not both.")
    if file is not None:
        return read_password(file)
    if not asked:
        return None
    first = getpass.getpass("Password of the new key: ")
    if not first or getpass.getpass("Once more: ") != first:
        raise RunFolderError("the two passwords differ, or are empty; the key was not changed.")
    return first.encode()


def read_password(path: Path) -> bytes:
    """Return the first line of a file that only its owner may read.

    Raises:
        KeyFileError: others may read it. RunFolderError: it cannot be read, or is empty.
    """
    check_owner_only(path)
    with told_as_sentence(path, "read"):
        password = path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    if not password:
        raise RunFolderError(f"{path} holds no password: expected it on the first line.")
    return password


def _open(path: Path) -> PrivateKey:
    password = password_for(path, "Password of") if is_encrypted(path) else None
    return read_key_file(path, password)


def _next(path: Path) -> Path:
    return path.with_name(f"{path.stem}-next{path.suffix}")

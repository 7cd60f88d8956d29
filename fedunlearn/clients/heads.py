"""The ledger heads that a client has been shown: the server cannot take back what they bind it to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedunlearn.errors import ClientError, RunFolderError
from fedunlearn.files import atomic_write_json, read_json
from fedunlearn.ledger_head import KeyRotation, SignedHead, last_key

HEADS_FILE: Final = "heads.json"
KEPT: Final = 64
"""How many heads a client keeps; the oldest make room."""


@dataclass(frozen=True)
class KnownServer:
    """What a client knows of its server.

    Attributes:
        run: the run's id.
        first_key: the public key (base64) of the first head; everything later must follow from it.
        key: the key that is in use now.
        heads: at most `KEPT`, in order.
    """

    run: str
    first_key: str
    key: str
    heads: tuple[SignedHead, ...]


class HeadStore:
    """The heads in `<client's folder>/heads.json`. The first one is believed; each later one must follow it."""

    def __init__(self, folder: Path) -> None:
        """Use a client's folder."""
        self._path = Path(folder) / HEADS_FILE

    def known(self) -> KnownServer | None:
        """Return what has been kept, or None before the first head.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not self._path.exists():
            return None
        return read_known(read_json(self._path), str(self._path))

    def accept(self, head: SignedHead, rotations: list[KeyRotation]) -> None:
        """Keep a head that follows what has been kept; the last one again changes nothing.

        Raises:
            ClientError: its signature does not hold, it is by another key or of another run, its number goes back, or
                it is not the head that was shown before under this number.
            RunFolderError: the file cannot be written.
        """
        known = self.known()
        if known is None:
            known = KnownServer(head.run, head.public_key, head.public_key, ())
        elif head.run != known.run:
            raise ClientError(
                f"the server showed the ledger of run {head.run}, and this client's folder belongs to run {known.run}: "
                f"give each run folders of its own."
            )
        key = last_key(known.key, head.run, rotations)
        if head.public_key != key or not head.holds():
            raise ClientError(
                f"head {head.number} of the server's ledger is not signed with the key that this client knows it by "
                f"({key[:12]}…): the server is another one, or its key was changed without the old key's signature."
            )
        last = known.heads[-1] if known.heads else None
        if last is not None and head.number < last.number:
            raise ClientError(
                f"the server's ledger has gone back: it showed entry {last.number} before and shows {head.number} now; "
                f"ask the operator what became of the entries in between."
            )
        if last is not None and head.number == last.number:
            if head.hash != last.hash:
                raise ClientError(
                    f"the server's ledger was rewritten: entry {head.number} is another one than the one it showed "
                    f"before; ask the operator why."
                )
            return
        kept = [*known.heads, head][-KEPT:]
        content = {
            "run": known.run,
            "first_key": known.first_key,
            "key": key,
            "heads": [one.document() for one in kept],
        }
        atomic_write_json(self._path, content, mode=0o600)


def read_known(content: Any, where: str) -> KnownServer:
    """Read what a client kept. Raises RunFolderError when it is something else."""
    try:
        heads = tuple(SignedHead.of(one) for one in content["heads"])
        return KnownServer(str(content["run"]), str(content["first_key"]), str(content["key"]), heads)
    except (ClientError, KeyError, TypeError) as error:
        raise RunFolderError(f"{where} holds no ledger heads ({error}): put back a copy of it.") from error

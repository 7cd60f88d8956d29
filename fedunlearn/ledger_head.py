"""What a ledger said at one moment, signed: the server signs it, clients keep it, and it cannot be taken back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from fedunlearn.announcement import signature_holds
from fedunlearn.canonical import canonical_text, tagged_bytes
from fedunlearn.errors import ClientError
from fedunlearn.key_files import PrivateKey

RECORD: Final = "head"
"""Name of the record that carries a head in a message."""

_PATTERNS: Final = {
    "run": r"[0-9a-f]{32}",
    "hash": r"[0-9a-f]{64}",
    "time": r"[0-9T:.+Z-]{1,40}",
    "public_key": r"[A-Za-z0-9+/]{43}=",
    "old": r"[A-Za-z0-9+/]{43}=",
    "new": r"[A-Za-z0-9+/]{43}=",
    "signature": r"[A-Za-z0-9+/]{86}==",
}


@dataclass(frozen=True)
class SignedHead:
    """The last entry of a run's ledger at some time, signed with the run's key.

    `run` is the run's id (32 hexadecimal digits), `number` the entry's (from 1), `hash` its hash, `time` UTC in
    ISO 8601; `public_key` and `signature` are base64 (Ed25519).
    """

    run: str
    number: int
    hash: str
    time: str
    public_key: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers: every other field."""
        content = {name: value for name, value in asdict(self).items() if name != "signature"}
        return tagged_bytes("fedunlearn-head-1", content)

    def signed(self, key: PrivateKey) -> SignedHead:
        """Return this head with `key`'s signature."""
        own = replace(self, public_key=key.public_key)
        return replace(own, signature=key.sign(own.signed_bytes()))

    def holds(self) -> bool:
        """Return whether the signature is by the holder of `public_key`, which may be anybody."""
        return signature_holds(self.public_key, self.signature, self.signed_bytes())

    def document(self) -> dict[str, Any]:
        """Return the head as JSON has it."""
        return asdict(self)

    @staticmethod
    def of(content: Any) -> SignedHead:
        """Read a head from JSON. Raises ClientError when it is none; the signature is not looked at."""
        return SignedHead(**_checked(SignedHead, content))


@dataclass(frozen=True)
class KeyRotation:
    """The holder of a run's key names the next one: `signature` is by the `old` key over the other fields."""

    run: str
    old: str
    new: str
    time: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        content = {name: value for name, value in asdict(self).items() if name != "signature"}
        return tagged_bytes("fedunlearn-key-rotation-1", content)

    def signed(self, key: PrivateKey) -> KeyRotation:
        """Return this rotation with the signature of the old `key`."""
        return replace(self, signature=key.sign(self.signed_bytes()))

    def holds(self) -> bool:
        """Return whether the holder of the old key signed this."""
        return signature_holds(self.old, self.signature, self.signed_bytes())

    def document(self) -> dict[str, Any]:
        """Return the rotation as JSON has it."""
        return asdict(self)

    @staticmethod
    def of(content: Any) -> KeyRotation:
        """Read a rotation from JSON. Raises ClientError when it is none; the signature is not looked at."""
        return KeyRotation(**_checked(KeyRotation, content))


def to_record(head: SignedHead, rotations: Sequence[KeyRotation]) -> dict[str, str]:
    """Return the values of the record that carries a head and every change of the run's key so far."""
    changes = [rotation.document() for rotation in rotations]
    return {"head": canonical_text(head.document()), "rotations": canonical_text(changes)}


def from_record(record: Mapping[str, Any]) -> tuple[SignedHead, list[KeyRotation]]:
    """The inverse of `to_record`. Raises ClientError when the record holds something else."""
    try:
        head, rotations = json.loads(str(record["head"])), json.loads(str(record["rotations"]))
    except (KeyError, ValueError) as error:
        raise ClientError("the server sent a record that is no ledger head; nothing of it was kept.") from error
    if not isinstance(rotations, list):
        raise ClientError("the server sent changes of its key in a form that is none; nothing of it was kept.")
    return SignedHead.of(head), [KeyRotation.of(one) for one in rotations]


def last_key(first: str, run: str, rotations: Sequence[KeyRotation]) -> str:
    """Return the key that the run has after `rotations`, of which those from `first` on must hold.

    Raises:
        ClientError: a rotation is for another run, does not follow, or its signature does not hold.
    """
    key = first
    started = False
    for rotation in rotations:
        started = started or rotation.old == first
        if not started:
            continue  # from before this side knew the server
        if rotation.run != run or rotation.old != key or not rotation.holds():
            raise ClientError(
                "a change of the server's key is not signed with the key before it: expected the old key's signature; "
                "ask the operator which key is the run's."
            )
        key = rotation.new
    return key


def _checked(kind: type, content: Any) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ClientError(f"this is no {kind.__name__}: expected the fields {', '.join(names)} and no others.")
    for name, value in content.items():
        if name == "number":
            sound = type(value) is int and 1 <= value < 2**53
        else:
            sound = isinstance(value, str) and re.fullmatch(_PATTERNS[name], value) is not None
        if not sound:
            raise ClientError(f"this is no {kind.__name__}: its {name} is not of the expected form.")
    return dict(content)

"""What a server may learn of a deletion request: never which samples, only how many and a commitment."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass
from typing import Final, Literal, cast, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedunlearn.errors import RequestError

Scope = Literal["client", "classes", "samples", "class-everywhere"]
"""What must go: all of a client, its samples of some classes, some samples, or a class at all clients."""

SCOPES: Final[tuple[str, ...]] = get_args(Scope)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OWN_ID = re.compile(r"client-(\d{1,12})-\d+")
"""The ids that a client gives its own requests; nobody else may take one."""
_COMMITMENT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Announcement:
    """A deletion request as it crosses the network: signed by the client, free of sample positions.

    `commitment` is the SHA-256 of a salt and the positions, both of which stay with the client; `count` is
    the number of samples (>= 1); `public_key` and `signature` are base64 (Ed25519); `holders` is how many
    clients file this request together (1, but for the scope "class-everywhere").
    """

    id: str
    client: int
    scope: Scope
    classes: tuple[int, ...] | None
    count: int
    commitment: str
    public_key: str
    signature: str = ""
    holders: int = 1

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers: every other field, in one fixed form."""
        content = {name: value for name, value in asdict(self).items() if name != "signature"}
        return b"fedunlearn-request-1\n" + json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    def check(self) -> None:
        """Check that this can be a request at all, whoever signed it.

        Raises:
            RequestError: it is not; the sentence says why.
        """
        check_request_id(self.id)
        names_classes = check_scope(self.scope) in ("classes", "class-everywhere")
        own = _OWN_ID.fullmatch(self.id)
        if own is not None and int(own[1]) != self.client:
            why = f"its id is one of client {own[1]}"
        elif self.count < 1 or self.holders < 1:
            why = f"it is for {self.count} samples of {self.holders} clients"
        elif names_classes != bool(self.classes):
            why = f"its scope is {self.scope!r} and its classes are {self.classes}"
        elif self.classes is not None and list(self.classes) != sorted({one for one in self.classes if one >= 0}):
            why = f"its classes {self.classes} are not sorted and distinct"
        elif _COMMITMENT.fullmatch(self.commitment) is None:
            why = "its commitment is no SHA-256"
        else:
            return
        raise RequestError(
            f"request {self.id} of client {self.client} is malformed ({why}): file it again from that client's folder."
        )

    def verify(self, public_key: str) -> None:
        """Check that the holder of `public_key` (base64, as registered at first contact) signed this.

        Raises:
            RequestError: the signature is not by that key, or something was changed after signing.
        """
        if self.public_key != public_key or not signature_holds(public_key, self.signature, self.signed_bytes()):
            raise RequestError(
                f"request {self.id} is not signed with the key that client {self.client} registered: "
                f"file it again from that client's own folder."
            )


def check_request_id(request: str) -> str:
    """Return `request` if it can be the id of a request (it comes from outside and becomes a file name).

    Raises:
        RequestError: it is not 1 to 64 letters, digits, `-` or `_`.
    """
    if not isinstance(request, str) or not _ID.fullmatch(request):
        raise RequestError(f"{request!r} is not a request id: expected 1 to 64 letters, digits, - or _.")
    return request


def check_scope(scope: str) -> Scope:
    """Return `scope` if it is one of `SCOPES`.

    Raises:
        RequestError: it is not.
    """
    if scope not in SCOPES:
        raise RequestError(f"{scope!r} is not a scope of a deletion request; expected one of {', '.join(SCOPES)}.")
    return cast(Scope, scope)


def signature_holds(public_key: str, signature: str, message: bytes) -> bool:
    """Return whether `signature` over `message` is by the holder of `public_key` (both base64)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True

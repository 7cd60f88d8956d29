"""A client's deletion requests, on its own disk: what is out, from the moment it is filed."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from fedunlearn.announcement import Announcement, Scope, check_request_id, check_scope
from fedunlearn.clients.keys import ClientKey
from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.files import atomic_create_bytes, atomic_write_json, json_bytes, make_folder, read_json

# More than the server's own states allow: a client may have missed the message in between.
_FOLLOWING: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"running", "done", "failed", "refused"}),
    "running": frozenset({"done", "failed", "refused"}),
    "failed": frozenset({"running", "done", "refused"}),
    "done": frozenset(),
    "refused": frozenset(),
}


@dataclass(frozen=True)
class FiledRequest:
    """A deletion request with everything that only its client knows.

    `positions` are sorted indices into the client's own samples; `salt` is 64 hexadecimal digits; `created`
    is UTC in ISO 8601; `state` is what the server last said: pending, running, done, failed or refused;
    `holders` is how many clients file the request together.
    """

    id: str
    client: int
    scope: Scope
    classes: tuple[int, ...] | None
    positions: tuple[int, ...]
    salt: str
    created: str
    state: str = "pending"
    reason: str = ""
    holders: int = 1

    @staticmethod
    def make(
        client: int,
        scope: str,
        positions: Iterable[int],
        classes: Iterable[int] | None = None,
        id: str | None = None,
        holders: int = 1,
    ) -> FiledRequest:
        """Return a new request with a fresh salt; `id` is drawn unless several clients share one request.

        Raises:
            RequestError: scope or id are malformed, no sample is named, or the classes do not fit the scope.
        """
        sorted_positions = tuple(sorted({int(position) for position in positions}))
        if not sorted_positions:
            raise RequestError(f"the request of client {client} names no sample: name at least one to forget.")
        if sorted_positions[0] < 0:
            raise RequestError(f"sample {sorted_positions[0]} of client {client} does not exist: count from 0.")
        named_classes = None if classes is None else tuple(sorted({int(one) for one in classes}))
        if (check_scope(scope) in ("classes", "class-everywhere")) != bool(named_classes):
            raise RequestError(
                f"a request of scope {scope!r} was given classes {named_classes}: name at least one class "
                f"for the scopes 'classes' and 'class-everywhere', and none for the others."
            )
        return FiledRequest(
            id=check_request_id(uuid.uuid4().hex[:12] if id is None else id),
            client=int(client),
            scope=check_scope(scope),
            classes=named_classes,
            positions=sorted_positions,
            salt=secrets.token_hex(32),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            holders=int(holders),
        )

    def same_content(self, other: FiledRequest) -> bool:
        """Return whether both ask for the same thing."""
        mine = (self.client, self.scope, self.classes, self.positions)
        return mine == (other.client, other.scope, other.classes, other.positions)


class Inbox:
    """The requests in `<client's folder>/inbox/`, one JSON file each, and the key that signs them."""

    def __init__(self, folder: Path) -> None:
        """Use a client's folder, which is made if it is not there."""
        self.folder = Path(folder)
        self._files = make_folder(self.folder / "inbox")

    def file(self, request: FiledRequest) -> str:
        """Store a request and return its id; from here on its samples are out.

        Filing the same content again, unless it was refused, returns the first id: a command repeated after a
        crash files nothing twice.

        Raises:
            RequestError: the id is taken by a request for something else.
            RunFolderError: no space is left, or the folder cannot be written.
        """
        for known in self.all():
            if known.same_content(request) and (known.state != "refused" or known.id == request.id):
                return known.id
        created = atomic_create_bytes(self._path(request.id), json_bytes(asdict(request)), mode=0o600)
        if not created and not self.get(request.id).same_content(request):
            raise RequestError(
                f"request {request.id} of client {request.client} is already filed for something else: "
                f"file this one under another id."
            )
        return request.id

    def get(self, id: str) -> FiledRequest:
        """Return one request.

        Raises:
            RequestError: none has this id.
            RunFolderError: its file is damaged.
        """
        path = self._path(id)
        if not path.is_file():
            known = ", ".join(request.id for request in self.all()) or "none"
            raise RequestError(f"no request {id} is filed in {self.folder}; filed there: {known}.")
        return _read(path)

    def ids(self) -> set[str]:
        """Return the ids of all requests, those whose files are damaged included."""
        return {path.stem for path in self._files.glob("[!.]*.json")}

    def all(self) -> list[FiledRequest]:
        """Return every request, in the order of filing.

        Raises:
            RunFolderError: a file is damaged.
        """
        requests = [_read(path) for path in self._files.glob("[!.]*.json")]
        return sorted(requests, key=lambda request: (request.created, request.id))

    def pending(self) -> list[FiledRequest]:
        """Return the requests that the server has not acknowledged yet, in the order of filing."""
        return [request for request in self.all() if request.state == "pending"]

    def acknowledge(self, id: str, state: str, reason: str = "") -> None:
        """Write down what the server says of a request; saying the same again is no error.

        Raises:
            RequestError: no such request, an unknown state, or one that cannot follow the present one.
        """
        request = self.get(id)
        if state == request.state:
            return
        if state not in _FOLLOWING[request.state]:
            allowed = ", ".join(sorted(_FOLLOWING[request.state])) or "nothing, it is final"
            raise RequestError(
                f"request {id} is {request.state} and cannot become {state!r}; what can follow: {allowed}."
            )
        changed = replace(request, state=state, reason=reason)
        atomic_write_json(self._path(id), asdict(changed), mode=0o600)

    def forgotten_positions(self) -> np.ndarray:
        """Return the positions (int64, sorted) of all requests but the refused: they must not be used."""
        out: set[int] = set()
        for request in self.all():
            if request.state != "refused":
                out.update(request.positions)
        return np.array(sorted(out), dtype=np.int64)

    def announcements(self) -> list[Announcement]:
        """Return what the server may learn of the pending requests, signed."""
        return [self.announcement(request) for request in self.pending()]

    def announcement(self, request: FiledRequest) -> Announcement:
        """Return what the server may learn of one request, signed with the client's key."""
        key = ClientKey.of(self.folder)
        unsigned = Announcement(
            id=request.id,
            client=request.client,
            scope=request.scope,
            classes=request.classes,
            count=len(request.positions),
            commitment=commitment(request.salt, request.positions),
            public_key=key.public_key,
            holders=request.holders,
        )
        return replace(unsigned, signature=key.sign(unsigned.signed_bytes()))

    def _path(self, id: str) -> Path:
        return self._files / f"{check_request_id(id)}.json"


def commitment(salt: str, positions: Sequence[int] | np.ndarray) -> str:
    """Return the SHA-256, in hexadecimal, that binds a client to `positions` without showing them.

    `salt` is 64 hexadecimal digits; without it nobody can try out likely positions. Order does not matter.
    """
    hashed = hashlib.sha256(b"fedunlearn-positions-1" + bytes.fromhex(salt))
    hashed.update(np.unique(np.asarray(positions, dtype=np.int64)).astype("<i8").tobytes())
    return hashed.hexdigest()


def _read(path: Path) -> FiledRequest:
    content: dict[str, Any] = read_json(path)
    try:
        classes = content["classes"]
        filed = {
            **content,
            "scope": check_scope(content["scope"]),
            "positions": tuple(int(position) for position in content["positions"]),
            "classes": None if classes is None else tuple(int(one) for one in classes),
        }
        request = FiledRequest(**filed)
        if request.state not in _FOLLOWING or check_request_id(request.id) != path.stem:
            raise ValueError("its state or id is not its own")
    except (KeyError, TypeError, ValueError, RequestError) as error:
        # Skipping it would put deleted samples back into training.
        raise RunFolderError(
            f"{path} is not a deletion request ({error}): put back a copy of it; until then this client "
            f"cannot tell which samples it must leave out."
        ) from error
    return request

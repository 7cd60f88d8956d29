"""Who is there: Flower's node ids change with every run, a client's own id does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedunlearn.announcement import Announcement, check_scope
from fedunlearn.errors import ClientError, RequestError
from fedunlearn.strategies.content import CONFIG

ASK, TELL = "query.requests", "query.acknowledge"


@dataclass(frozen=True)
class Member:
    """One client as it announced itself: samples it holds, and how many of them it may still be trained on."""

    client: int
    node: int
    samples: int
    retained: int
    public_key: str


@dataclass(frozen=True)
class Roster:
    """The clients that answered, by id, the requests that they announced, and why others did not answer."""

    members: Mapping[int, Member]
    announced: tuple[Announcement, ...] = ()
    absent: tuple[str, ...] = ()

    def retaining(self) -> tuple[int, ...]:
        """Clients that still hold samples to train on, in order."""
        return tuple(client for client, member in sorted(self.members.items()) if member.retained > 0)

    def joined_by(self, other: Roster) -> Roster:
        """This roster with what a later roll call of some of the clients says."""
        return replace(other, members={**self.members, **other.members})


def call_roll(grid: Grid, timeout: float, nodes: Iterable[int] | None = None) -> Roster:
    """Ask `nodes` (all when None) who they are and what they have filed.

    A client that does not answer is simply not on the roster. Raises ClientError when all were asked and nobody
    answers, or when two nodes claim the same client.
    """
    asked = sorted(grid.get_node_ids() if nodes is None else nodes)
    if not asked:
        return Roster({})
    messages = [Message(RecordDict(), node, ASK) for node in asked]
    members: dict[int, Member] = {}
    announced: list[Announcement] = []
    sentences = []
    for reply in grid.send_and_receive(messages, timeout=timeout):
        if reply.has_error():
            sentences.append(str(reply.error.reason))
            continue
        config = reply.content.config_records[CONFIG]
        member = Member(
            client=_number(config, "client"),
            node=reply.metadata.src_node_id,
            samples=_number(config, "samples"),
            retained=_number(config, "retained"),
            public_key=str(config["public-key"]),
        )
        if member.client in members:
            raise ClientError(f"two nodes say that they are client {member.client}; give each its own partition id.")
        members[member.client] = member
        try:
            announced += _announcements(config, member)
        except (RequestError, KeyError, TypeError, ValueError) as error:
            # One client's nonsense must not keep the others from being heard.
            sentences.append(f"client {member.client} announced something that is no deletion request ({error}).")
    if not members and nodes is None:
        raise ClientError(f"none of the {len(asked)} clients answered: {sentences[0] if sentences else 'no reply'}")
    return Roster(members, tuple(sorted(announced, key=lambda one: (one.id, one.client))), tuple(sentences))


def tell(grid: Grid, roster: Roster, told: Mapping[int, Sequence[tuple[str, str, str]]], timeout: float) -> None:
    """Tell each target that is there how its requests stand; one that is away hears it when it asks again.

    Args:
        told: client -> (id, state, reason) of each of its requests.
    """
    messages = []
    for client in sorted(told.keys() & roster.members.keys()):
        ids, states, reasons = ([entry[column] for entry in told[client]] for column in range(3))
        config = ConfigRecord({"ids": ids, "states": states, "reasons": reasons})
        messages.append(Message(RecordDict({CONFIG: config}), roster.members[client].node, TELL))
    # Replies may be made only as they are read.
    for _ in grid.send_and_receive(messages, timeout=timeout) if messages else ():
        pass


def _number(config: ConfigRecord, name: str) -> int:
    value = config[name]
    if not isinstance(value, int):
        raise ClientError(f"a client announced {name!r} as {value!r}; expected a whole number.")
    return value


def _announcements(config: ConfigRecord, member: Member) -> list[Announcement]:
    columns: Sequence[list] = [
        list(config[name])  # type: ignore[arg-type]
        for name in ("ids", "scopes", "classes", "counts", "commitments", "signatures")
    ]
    # An app that knows of no shared requests files each by itself.
    columns = [*columns, list(config.get("holders", [1] * len(columns[0])))]  # type: ignore[arg-type]
    return [
        Announcement(
            id=str(id),
            client=member.client,
            scope=check_scope(str(scope)),
            classes=tuple(int(one) for one in str(classes).split(",")) if classes else None,
            count=int(count),
            commitment=str(commitment),
            public_key=member.public_key,
            signature=str(signature),
            holders=int(holders),
        )
        for id, scope, classes, count, commitment, signature, holders in zip(*columns, strict=True)
    ]

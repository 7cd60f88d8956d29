"""Records that several messages share are written into shared memory once, and mapped by every worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Message

from fedunlearn.engines.blocks import Block, Writer, offsets_of
from fedunlearn.engines.records import Entry, Identity, flat, identity

Held = list[tuple[Identity, ArrayRecord]]

_UNUSED_KEPT = 2


@dataclass(frozen=True)
class Publication:
    """A record that lies in shared memory.

    Attributes:
        number: by which messages name it.
        record: itself; it is kept, so that its identity stays its own.
        entries: what its arrays are.
        block: where they are; None when there is not a byte of them.
    """

    number: int
    record: ArrayRecord
    entries: tuple[Entry, ...]
    block: Block | None

    @property
    def notice(self) -> list[Any]:
        """What a worker is told of it."""
        return [self.number, self.entries, None if self.block is None else self.block.number]


class Publisher:
    """The published records of one exchange: those that more than one message holds.

    Args:
        writer: the blocks of this process.
        first: number of the first publication; no number is ever used twice.
    """

    def __init__(self, writer: Writer, first: int = 0) -> None:
        self.next = first
        self._writer = writer
        self._holders: dict[Identity, int] = {}
        self._publications: dict[Identity, Publication] = {}

    def hold(self, message: Message) -> Held:
        """A message is on its way; to be released with what this returns."""
        held = []
        for record in message.content.values():
            if isinstance(record, ArrayRecord):
                shared = identity(record)
                self._holders[shared] = self._holders.get(shared, 0) + 1
                # A copy, for the identity of a record is its own only as long as its arrays live.
                held.append((shared, record.copy()))
        return held

    def release(self, held: Held) -> list[int]:
        """A message has been answered; the numbers of records that are published no more."""
        for shared, _ in held:
            self._holders[shared] -= 1
            if not self._holders[shared] and shared not in self._publications:
                del self._holders[shared]
        # Messages that come one by one may share a record although never two are on their way.
        unused = [shared for shared in self._publications if not self._holders[shared]]
        return [self._retire(shared) for shared in unused[:-_UNUSED_KEPT]]

    def of(self, record: ArrayRecord) -> Publication | None:
        """The publication of a record, made now if several messages hold it; None: it is for one message only."""
        shared = identity(record)
        publication = self._publications.get(shared)
        if publication is None and self._holders.get(shared, 0) > 1:
            publication = self._publications[shared] = self._publish(record)
        return publication

    def record(self, number: int) -> ArrayRecord:
        """The record that was published under a number, and still is."""
        return next(one.record for one in self._publications.values() if one.number == number)

    def close(self) -> list[int]:
        """Publish nothing any more; the numbers of all that was."""
        return [self._retire(shared) for shared in list(self._publications)]

    def _publish(self, record: ArrayRecord) -> Publication:
        entries, arrays = flat(record)
        offsets, size = offsets_of([array.nbytes for array in arrays])
        block = None
        if size:
            block = self._writer.block(size)
            block.write(arrays, offsets)
            block.readers.add(self)
        self.next += 1
        return Publication(self.next, record, entries, block)

    def _retire(self, shared: Identity) -> int:
        publication = self._publications.pop(shared)
        if not self._holders[shared]:
            del self._holders[shared]
        if publication.block is not None:
            self._writer.released(publication.block.number, self)
        return publication.number

"""A channel whose frames may hold Flower records; arrays lie in shared blocks and are not copied when they are read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from fedunlearn.engines.blocks import Block, Reader, Writer
from fedunlearn.engines.channel import MOST_FILES, Channel
from fedunlearn.engines.log_lines import LogLines, log_here
from fedunlearn.engines.records import Entry, Layout, Parcel

Arrival = tuple[dict[str, Any], np.ndarray | None]
"""A frame, and the memory that holds its arrays."""


class Post:
    """One end of a connection between the parent and a worker.

    Args:
        channel: carries the frames.
        writer: this process's blocks.
        peer: what `writer` knows the other side by.
        only_reader: whether nobody but the other side reads the writer's blocks: their files are then closed once they
            were sent.
        log_lines: what was logged on this side goes along with the next frame; None: it stays here.
    """

    def __init__(
        self,
        channel: Channel,
        writer: Writer,
        peer: Hashable,
        only_reader: bool,
        log_lines: LogLines | None = None,
    ) -> None:
        self.channel = channel
        self.layouts: dict[int, Layout] = {}
        self._writer = writer
        self._reader = Reader()
        self._peer = peer
        self._only_reader = only_reader
        self._log_lines = log_lines
        self._known_layouts: dict[tuple[Entry, ...], int] = {}
        self._sent: set[int] = set()

    def parcel(self) -> Parcel:
        """For the records of the next frame."""
        return Parcel(self._known_layouts)

    def send(self, frame: dict[str, Any], parcel: Parcel | None = None, published: Sequence[Block] = ()) -> None:
        """Send a frame with the arrays of its records, and with blocks that it mentions.

        Raises:
            ChannelClosed: the other side is gone.
        """
        blocks = list(published)
        if parcel is not None and parcel.size:
            block = self._writer.block(parcel.size)
            block.write(parcel.arrays, parcel.offsets)
            frame["block"] = block.number
            blocks.append(block)
        if parcel is not None and parcel.new_layouts:
            frame["layouts"] = parcel.new_layouts
        new: list[tuple[int, int]] = []
        for block in blocks:
            block.readers.add(self._peer)
            if block.number not in self._sent and block.file is not None:
                self._sent.add(block.number)
                new.append((block.number, block.file))
        while len(new) > MOST_FILES:
            self._send_files({"kind": "files"}, new[:MOST_FILES])
            del new[:MOST_FILES]
        if dropped := [number for number in self._sent if not self._writer.holds(number)]:
            self._sent.difference_update(dropped)
            frame["dropped"] = dropped
        if released := self._reader.released():
            frame["released"] = released
        if self._log_lines is not None and (lines := self._log_lines.taken()):
            frame["log"] = lines
        self._send_files(frame, new)
        if self._only_reader:
            for block in blocks:
                block.close_file()

    def _send_files(self, frame: dict[str, Any], files: Sequence[tuple[int, int]]) -> None:
        if files:
            frame["files"] = [number for number, _ in files]
        self.channel.send(frame, [file for _, file in files])

    def settle(self) -> None:
        """Tell the other side what is no longer looked at, if there is anything to tell."""
        if released := self._reader.released():
            self.channel.send({"kind": "released", "released": released})

    def receive(self) -> Arrival:
        """Wait for a frame. Raises ChannelClosed when the other side is gone."""
        return self._arrived(*self.channel.receive())

    def poll(self) -> Arrival | None:
        """The next frame, if one has come. Raises ChannelClosed when the other side is gone."""
        frame = self.channel.poll()
        return None if frame is None else self._arrived(*frame)

    def memory(self, number: int) -> np.ndarray:
        """The bytes of a block that a frame mentioned: to be asked for once each time it is mentioned."""
        return self._reader.memory(number)

    def _arrived(self, frame: dict[str, Any], files: list[int]) -> Arrival:
        for number, file in zip(frame.get("files", ()), files, strict=True):
            self._reader.opened(number, file)
        for number, entries in frame.get("layouts", ()):
            self.layouts[number] = Layout.read(entries)
        for number in frame.get("released", ()):
            self._writer.released(number, self._peer)
        self._reader.dropped(frame.get("dropped", ()))
        log_here(frame.get("log", ()))
        block = frame.get("block")
        return frame, None if block is None else self.memory(block)

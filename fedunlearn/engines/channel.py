"""Messages between a process and its workers: plain JSON over a socket, with open files passed along."""

from __future__ import annotations

import json
import select
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

_HEADER = struct.Struct("<IH")
_CHUNK = 1 << 18
# The kernel passes at most 253 open files at a time.
MOST_FILES = 200

Frame = tuple[dict[str, Any], list[int]]
"""A JSON object, and the open files that came with it."""


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a two-way connection; each frame is a JSON object and up to `MOST_FILES` open files.

    Neither side ever waits for the other to read while something waits to be read: `send` takes in what comes.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._bytes = bytearray()
        self._files: deque[int] = deque()
        self._frames: deque[Frame] = deque()
        self._closed = False

    def fileno(self) -> int:
        """The socket's number, for `select`."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send one frame; the files stay open here.

        Raises:
            ChannelClosed: the other side is gone.
        """
        body = json.dumps(message, separators=(",", ":")).encode()
        rest = memoryview(_HEADER.pack(len(body), len(files)) + body)
        while rest:
            try:
                sent = socket.send_fds(self._socket, [rest], list(files)) if files else self._socket.send(rest)
            except BlockingIOError:
                self._wait(select.POLLIN | select.POLLOUT, None)
                self._take_in()
                continue
            except OSError as error:
                # Also a socket that was closed here: a worker that has been ended is no worker any more.
                raise ChannelClosed from error
            # The files travel with the first byte.
            files = ()
            rest = rest[sent:]

    def receive(self) -> Frame:
        """Wait for a frame and return it.

        Raises:
            ChannelClosed: the other side is gone, and all that it sent has been read.
        """
        while (frame := self.poll()) is None:
            self._wait(select.POLLIN, None)
        return frame

    def poll(self) -> Frame | None:
        """The next frame, if one has come.

        Raises:
            ChannelClosed: the other side is gone, and all that it sent has been read.
        """
        if not self._frames:
            self._take_in()
        if self._frames:
            return self._frames.popleft()
        if self._closed:
            raise ChannelClosed
        return None

    @property
    def closed(self) -> bool:
        """Whether either end was closed, as far as it is known here."""
        return self._closed

    def close(self) -> None:
        """Close this end."""
        self._closed = True
        self._socket.close()

    def _wait(self, events: int, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        poll.poll(None if seconds is None else seconds * 1000)

    def _take_in(self) -> None:
        """Read what has come, without waiting."""
        while not self._closed:
            try:
                data, files, _, _ = socket.recv_fds(self._socket, _CHUNK, MOST_FILES)
            except BlockingIOError:
                break
            except OSError:
                data, files = b"", []
            self._files.extend(files)
            self._bytes += data
            self._closed = not data
            if len(data) < _CHUNK and not files:
                break
        self._split()

    def _split(self) -> None:
        start = 0
        while len(self._bytes) - start >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._bytes, start)
            end = start + _HEADER.size + length
            if len(self._bytes) < end:
                break
            message = json.loads(self._bytes[start + _HEADER.size : end])
            self._frames.append((message, [self._files.popleft() for _ in range(count)]))
            start = end
        del self._bytes[:start]

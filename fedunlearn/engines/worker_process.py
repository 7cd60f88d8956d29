"""One worker process, seen from the process that started it."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import Any

from fedunlearn.engines.blocks import Writer
from fedunlearn.engines.channel import Channel
from fedunlearn.engines.log_lines import LOGGER
from fedunlearn.engines.post import Post

WORKER = "fedunlearn.engines.worker"
# One thread a process, whichever library computes: the cores belong to the workers.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


# Training frees and takes the same megabytes in every step. By default the C library gives them back to the system each
# time, which clears every page of them for the next step: a tenth of the time of a convolutional network.
_KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def surroundings() -> dict[str, Any]:
    """What a worker needs in order to import what this process can: path, working directory, environment."""
    folder = os.getcwd()
    return {
        "kind": "surroundings",
        "path": [entry or folder for entry in sys.path],
        "folder": folder,
        "environment": {**_KEPT_MEMORY, **os.environ, **_ONE_THREAD},
        "level": logging.getLogger(LOGGER).getEffectiveLevel(),
    }


def in_worker() -> bool:
    """Whether this process is itself a worker: it then starts no workers of its own."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    return specification is not None and specification.name == WORKER


class WorkerProcess:
    """A fresh interpreter that runs `fedunlearn.engines.worker`; it never imports the caller's `__main__`.

    The constructor returns at once; the process says when it is ready. It ends with this process, however that ends.

    Args:
        writer: the blocks of this process.
    """

    def __init__(self, writer: Writer) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        around = surroundings()
        environment = {**around["environment"], "PYTHONPATH": os.pathsep.join(around["path"])}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment,
                # A terminal's Ctrl-C reaches the parent only.
                start_new_session=True,
            )
        self._writer = writer
        self.post = Post(Channel(ours), writer, self, only_reader=False)
        self.post.send(around)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether this side has ended it."""
        return self.post.channel.closed

    def surround(self) -> None:
        """Tell the worker where this process is now. Raises ChannelClosed when it is gone."""
        self.post.send(surroundings())

    def end(self) -> None:
        """Kill the process and wait until it is gone."""
        self.forget()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Close what connects this process with the worker."""
        self.post.channel.close()
        self._writer.gone(self)
        if self._process.stdin is not None:
            self._process.stdin.close()

"""What runs in a worker process: `python -m fedunlearn.engines.worker SOCKET`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

from fedunlearn.engines.blocks import Writer
from fedunlearn.engines.channel import Channel, ChannelClosed
from fedunlearn.engines.jobs import run_job
from fedunlearn.engines.log_lines import LOGGER, LogLines
from fedunlearn.engines.post import Post
from fedunlearn.engines.serving import ClientServer

PARENT = "parent"


def serve(post: Post) -> None:
    """Do what comes over the channel until its other end is gone."""
    clients = ClientServer(post)
    try:
        while True:
            frame, memory = post.receive()
            if frame["kind"] == "surroundings":
                _take_over(frame)
            elif frame["kind"] == "job":
                _do(post, frame)
            else:
                clients.handle(frame, memory)
            # What was mapped for this frame can be used again, unless a client kept some of it.
            del frame, memory
            post.settle()
    except ChannelClosed:
        return
    except KeyboardInterrupt:
        # Not from the terminal, which does not reach this process: a client or a job raised it.
        post.send({"kind": "interrupted"})


def _do(post: Post, frame: dict[str, Any]) -> None:
    try:
        post.send(run_job(frame["function"], frame["job"], frame["imports"]))
    except (TypeError, ValueError) as error:
        post.send({"kind": "raised", "sentence": f"JSON cannot carry its result: {error}", "details": str(error)})


def _take_over(surroundings: dict[str, Any]) -> None:
    """Be where the parent is: its import path, working directory and environment."""
    sys.path[:] = surroundings["path"]
    os.chdir(surroundings["folder"])
    for name in os.environ.keys() - surroundings["environment"].keys():
        del os.environ[name]
    os.environ.update(surroundings["environment"])
    logging.getLogger(LOGGER).setLevel(surroundings["level"])


def _end_with_the_parent() -> None:
    """End at once when the parent is gone: it holds the other end of standard input, and never writes."""
    os.read(0, 1)
    os._exit(0)


def main() -> None:
    """Serve the socket whose number is the first argument."""
    # Ctrl-C is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="fedunlearn-lifeline", daemon=True).start()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    channel.send({"kind": "ready"})
    serve(Post(channel, Writer(), PARENT, only_reader=True, log_lines=LogLines()))


if __name__ == "__main__":
    main()

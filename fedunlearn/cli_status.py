"""From what a command did to its exit status, and to the one sentence that an error is."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

import click

from fedunlearn.cli_output import print_error
from fedunlearn.errors import FedunlearnError

FAILED = 1
INTERRUPTED = 130
CLIENT_THREAD = "fedunlearn-clients"
"""Name of the local engine's threads, which must not be imported here: it takes flwr."""


def exit_status(call: Callable[[], object], words: Sequence[str]) -> int:
    """Do `call` and say how it went.

    Args:
        call: runs the command; returns 130, or raises KeyboardInterrupt, when it was interrupted, and another status
            when the command has said itself what did not work.
        words: of the command line, for the sentence that says how to resume.

    Returns:
        0; 1 it did not work; 2 wrong arguments; 130 interrupted.
    """
    as_json = "--json" in words
    try:
        returned = call()
    except click.UsageError as error:
        return _refuse(error, as_json)
    except FedunlearnError as error:
        print_error(str(error), as_json)
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        returned = INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output, `head` for one, has had enough.
        return FAILED
    except OSError as error:
        print_error(f"{error.filename or 'input or output'}: {error.strerror or error}.", as_json)
        return FAILED
    except Exception as error:
        traceback.print_exc()
        kind = type(error).__name__
        print_error(f"this is a defect of fedunlearn, please report it: {kind}: {error}", as_json)
        return FAILED
    if returned == INTERRUPTED:
        again = shlex.join(["fedunlearn", *words])
        print_error(f"interrupted; what was finished is kept, and the same command resumes it: {again}", as_json)
        return INTERRUPTED
    return returned if type(returned) is int else 0


def end_process(status: int) -> int:
    """Return `status`, or end the process with it at once where a client's thread that was cut off is still busy.

    Python would end that thread in the middle of torch, which aborts: another status, and a line nobody understands.
    """
    if any(thread.name == CLIENT_THREAD for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)
    return status


def _refuse(error: click.UsageError, as_json: bool) -> int:
    # Without any argument click prints the help, and its error has no text.
    if text := error.format_message().rstrip("."):
        command = error.ctx.command_path if error.ctx else "fedunlearn"
        print_error(f"{text}; see: {command} --help", as_json)
    return error.exit_code

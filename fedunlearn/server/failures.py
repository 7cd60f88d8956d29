"""What did not work is part of the record: a job that fails leaves its sentence in the ledger.

What was asked for and cannot be is none: whoever mistypes an argument has changed nothing, and the record is for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fedunlearn.errors import FedunlearnError, RequestError, SettingsError
from fedunlearn.server.session import Session

FAILED = "job-failed"
"""The event of a job that failed: what it was "doing", and "why" it failed."""


@contextmanager
def recorded(session: Session, doing: str) -> Iterator[None]:
    """Write an error of the block into the ledger, and let it go on; one of what was asked for only goes on."""
    try:
        yield
    except (SettingsError, RequestError):
        raise
    except FedunlearnError as error:
        # Where the ledger itself is what failed, the error that goes on is the one to be told.
        with suppress(FedunlearnError):
            # The ledger goes to third parties, whom it does not concern where the folder lies.
            why = str(error).replace(str(session.folder.path), "RUN")
            session.ledger.append_event(FAILED, {"doing": doing, "why": why})
        raise

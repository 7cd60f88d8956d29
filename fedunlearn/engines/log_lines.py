"""What is logged in a worker process, logged where a person looks: in the parent."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

LOGGER = "fedunlearn"


class LogLines(logging.Handler):
    """Collects, in a worker, what this package logs."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[list[Any]] = []
        logging.getLogger(LOGGER).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, with its traceback in its text."""
        self._lines.append([record.name, record.levelno, self.format(record)])

    def taken(self) -> list[list[Any]]:
        """Name of the logger, level and text of what was collected since the last call."""
        taken, self._lines = self._lines, []
        return taken


def log_here(lines: Iterable[list[Any]]) -> None:
    """Log, in the parent, what a worker collected."""
    for name, level, text in lines:
        logging.getLogger(name).log(level, "%s", text)

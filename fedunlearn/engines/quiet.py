"""Keep Flower's own log lines out of a run, and put its logger back afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fedunlearn.engines.flower_compat import FLOWER_LOGGER_NAME, telemetry_switch


@contextmanager
def quiet_flower(level: int = logging.WARNING) -> Iterator[None]:
    """Let Flower log only from `level` on, and send no telemetry, while the block runs.

    A user who has already set a stricter level keeps it.
    """
    logger = logging.getLogger(FLOWER_LOGGER_NAME)
    level_before, switch_before = logger.level, telemetry_switch("0")
    logger.setLevel(max(level_before, level))
    try:
        yield
    finally:
        logger.setLevel(level_before)
        telemetry_switch(switch_before)

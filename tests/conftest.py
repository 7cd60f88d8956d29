"""Fixtures for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fedunlearn

StartScript = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_script() -> Iterator[StartScript]:
    """Start Python source as a process (`start_script(source, *arguments)`), which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(fedunlearn.__file__).parents[1])}
        process = subprocess.Popen(
            [sys.executable, "-c", source, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()

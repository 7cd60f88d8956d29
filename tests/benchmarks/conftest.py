"""The engine benchmark's modules: scripts beside each other, no package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ENGINES = Path(__file__).parents[2] / "benchmarks" / "engines"
NAMES = ("arithmetic", "jobs", "measured_process", "tables", "workload")


@pytest.fixture(scope="session")
def engine_benchmark() -> Iterator[dict[str, ModuleType]]:
    """Its modules by name; they leave again, because such names could be anybody's."""
    sys.path.insert(0, str(ENGINES))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(ENGINES))
        for name in NAMES:
            sys.modules.pop(name, None)

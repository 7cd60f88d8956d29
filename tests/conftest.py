"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import fedunlearn

if TYPE_CHECKING:
    from fedunlearn.federation import Federation

# A busy machine makes no property false; what hangs is ended by pytest-timeout.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

StartScript = Callable[..., "subprocess.Popen[str]"]
LONGEST = (
    "strategies/test_methods.py",
    "test_federation.py",
    "test_benchmark.py",
    "test_kill_and_resume.py",
    "engines/test_flower_run.py",
    "engines/test_ray.py",
    "engines/test_kills.py",
    "engines/test_digests.py",
    "self_test/test_run.py",
    "test_image_to_image.py",
    "test_guides.py",
)
"""Files that take most of a minute and more; with these first, two workers that share out whole files end together.

pytest-xdist would give out files by their number of tests (hence `--no-loadscope-reorder`), and these have few.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else in its order."""
    here = Path(__file__).parent
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(here).as_posix(), len(rank)))


@pytest.fixture(scope="module", autouse=True)
def _no_workers_are_left() -> Iterator[None]:
    """Workers that one module's federations earned would not see what the next module's tests patch."""
    yield
    if "fedunlearn.engines.worker_pool" in sys.modules:
        from fedunlearn.engines import close_pool

        close_pool()


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


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained federation (digits, three clients, two rounds): copied by tests, never changed.

    It has learned so little that what is unlearned harms whole classes, and may.
    """
    from fedunlearn.federation import Federation

    folder = tmp_path_factory.mktemp("trained") / "run"
    Federation.simulate(
        "digits", clients=3, partition="iid", rounds=2, local_epochs=1, learning_rate=0.1, class_harm=1.0, out=folder
    ).train()
    return folder


@pytest.fixture
def federation(trained_run: Path, tmp_path: Path) -> Federation:
    """A trained federation of a test's own."""
    from fedunlearn.federation import Federation

    return Federation.open(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def audited_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a federation whose request `client-0-1` was served, compared and audited; copied by tests."""
    from fedunlearn.federation import Federation

    folder = tmp_path_factory.mktemp("audited") / "run"
    federation = Federation.simulate(
        "digits",
        clients=3,
        partition="iid",
        rounds=2,
        local_epochs=1,
        learning_rate=0.1,
        class_harm=1.0,
        workers=0,
        out=folder,
    )
    federation.train()
    request = federation.request_deletion(client=0, classes=[3])
    federation.unlearn(request, method="fine-tune", rounds=1)
    federation.compare(request, retrain=False)
    federation.audit(request, "quick")
    return folder


@pytest.fixture
def audited(audited_run: Path, tmp_path: Path) -> Federation:
    """An audited federation of a test's own."""
    from fedunlearn.federation import Federation

    return Federation.open(shutil.copytree(audited_run, tmp_path / "run"))

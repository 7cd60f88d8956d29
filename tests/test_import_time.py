"""What everybody waits for: importing the package, and the help of the command line."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "flwr", "matplotlib", "sklearn", "captum", "ray", "torchvision", "datasets")
HELP = "import sys; from fedunlearn.cli import main; sys.exit(main(['--help']))"


def seconds_of(code: str) -> float:
    """Processor seconds of the fastest of three fresh interpreters that run `code`.

    Nothing waits while modules are imported, so on an idle machine this is the time that a user sees, and
    other jobs on a busy one do not stretch it.
    """

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(3))


def heavy_modules_after(code: str) -> str:
    """The heavy modules that are loaded once `code` has run, separated by spaces."""
    report = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True)
    return done.stderr.strip()


def test_importing_the_package_takes_under_half_a_second() -> None:
    assert seconds_of("import fedunlearn") < 0.5


def test_help_takes_under_a_second() -> None:
    assert seconds_of(HELP) < 1.0


@pytest.mark.parametrize(
    "code",
    [
        "import fedunlearn",
        "import fedunlearn.config, fedunlearn.registry, fedunlearn.errors, fedunlearn.progress",
        "from fedunlearn.cli import main; assert main(['--help']) == 0",
        "from fedunlearn.cli import main; assert main(['simulate', '--help']) == 0",
        "from fedunlearn.cli import main; assert main(['--version']) == 0",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    assert heavy_modules_after(code) == ""


def test_a_heavy_module_is_noticed() -> None:
    assert heavy_modules_after("import matplotlib") == "matplotlib"

"""The experiments that come with the package can be run as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.experiment import read_experiment

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.rglob("*.toml"))


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_a_question_with_several_seeds_that_can_be_read(path: Path) -> None:
    experiment = read_experiment(path)
    assert experiment.question.endswith("?")
    # "quick" shows that a benchmark runs, not a result.
    assert len(experiment.seeds) * len(experiment.cells) >= 3 or path.stem == "quick"

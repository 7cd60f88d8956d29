from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.server.figure_store import FigureStore, file_name
from fedunlearn.server.primary_figures import Figure

FIGURES = {"loss": Figure(0.25), "accuracy": Figure(0.5, 10)}


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Figure]:
        self.calls += 1
        return dict(FIGURES)


def test_a_model_is_measured_once(tmp_path: Path) -> None:
    measure = Counted()
    for _ in range(3):
        assert FigureStore(tmp_path, ["a"], [0]).get_or_measure("1" * 64, measure) == FIGURES
    assert measure.calls == 1
    FigureStore(tmp_path, ["a"], [0]).get_or_measure("2" * 64, measure)
    assert measure.calls == 2
    assert FigureStore(tmp_path, ["a"], [0]).get_or_measure("1" * 64, measure) == FIGURES and measure.calls == 2


@pytest.mark.parametrize(("requests", "clients"), [(["a", "b"], [0]), (["a"], [0, 1]), (["a"], [])])
def test_another_job_or_other_clients_measure_anew(tmp_path: Path, requests: list[str], clients: list[int]) -> None:
    measure = Counted()
    FigureStore(tmp_path, ["a"], [0]).get_or_measure("1" * 64, measure)
    FigureStore(tmp_path, requests, clients).get_or_measure("1" * 64, measure)
    assert measure.calls == 2


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"format": 1}'])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, damaged: str) -> None:
    store, measure = FigureStore(tmp_path, ["a"], [0]), Counted()
    store.get_or_measure("1" * 64, measure)
    (path,) = tmp_path.iterdir()
    path.write_text(damaged)
    assert store.get_or_measure("1" * 64, measure) == FIGURES and measure.calls == 2


def test_many_requests_still_make_a_file_name() -> None:
    assert file_name(["b", "a"]) == "a+b"
    long = file_name([f"client-{number}-1" for number in range(100)])
    assert len(long) == 64 and long != file_name([f"client-{number}-2" for number in range(100)])

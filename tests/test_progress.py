from __future__ import annotations

import io

import pytest

from fedunlearn.progress import PlainLines, Progress, progress_reporter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(*steps: tuple[float, Progress]) -> list[str]:
    """What `PlainLines` writes for records that come at the given seconds."""
    now = 0.0
    stream = io.StringIO()
    reporter = PlainLines(stream, seconds=10.0, clock=lambda: now)
    for now, progress in steps:  # noqa: B007 (the clock reads it)
        reporter(progress)
    return stream.getvalue().splitlines()


def test_a_quick_phase_is_its_first_and_its_last_line() -> None:
    steps = [(0.1 * step, Progress("training", step, 15, f"accuracy {step}")) for step in range(1, 16)]
    assert lines_of(*steps) == ["training 1/15: accuracy 1", "training 15/15: accuracy 15"]


def test_a_slow_phase_gives_a_line_now_and_then() -> None:
    steps = [(4.0 * step, Progress("training", step, 10)) for step in range(1, 7)]
    assert lines_of(*steps) == ["training 1/10", "training 4/10"]


def test_every_phase_is_named() -> None:
    assert lines_of((0, Progress("attribution", 1, 2)), (0, Progress("recovery", 0, 0))) == [
        "attribution 1/2",
        "recovery 0",
    ]


def test_nothing_but_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with progress_reporter(stream) as on_progress:
        on_progress(Progress("training", 1, 1, "test accuracy 0.91"))
    assert stream.getvalue() == "training 1/1: test accuracy 0.91\n"


def test_a_terminal_gets_a_bar_for_every_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_reporter(stream) as on_progress:
        on_progress(Progress("training", 2, 2, "test accuracy 0.91"))
        on_progress(Progress("recovery", 1, 3))
    shown = stream.getvalue()
    assert "training" in shown and "2/2" in shown and "test accuracy 0.91" in shown
    assert "recovery" in shown and "1/3" in shown

"""How long calls tell what they are doing: one record, and the two ways of showing it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@dataclass(frozen=True)
class Progress:
    """One step of a long call.

    Args:
        phase: what is going on, in a word or two ("training", "recovery", …).
        step: steps of this phase that are done, 0 to `total`.
        total: steps that this phase has; 0 when it is not known.
        detail: what is worth seeing now ("test accuracy 0.91"); may be empty.
    """

    phase: str
    step: int
    total: int
    detail: str = ""


OnProgress = Callable[[Progress], None]


def in_words(figures: Mapping[str, Any]) -> str:
    """The figure of a round that is worth seeing: its test accuracy, or the loss of a task that has none."""
    accuracy, loss = figures.get("test_accuracy"), figures.get("test_loss")
    if accuracy is not None:
        return f"test accuracy {accuracy:.3f}"
    return "" if loss is None else f"test loss {loss:.4g}"


class PlainLines:
    """Shows progress as plain lines: the first and the last step of a phase, and one now and then between.

    Args:
        stream: where the lines go.
        seconds: least time between two lines of one phase.
        clock: seconds that only ever grow.
    """

    def __init__(self, stream: TextIO, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._seconds = seconds
        self._clock = clock
        self._phase: str | None = None
        self._written = 0.0

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        is_last = progress.total > 0 and progress.step >= progress.total
        if progress.phase == self._phase and not is_last and now - self._written < self._seconds:
            return
        self._phase, self._written = progress.phase, now
        of_total = f"{progress.step}/{progress.total}" if progress.total else str(progress.step)
        detail = f": {progress.detail}" if progress.detail else ""
        print(f"{progress.phase} {of_total}{detail}", file=self._stream, flush=True)


class Bars:
    """Shows progress as one bar a phase; the bars of finished phases stay on the screen."""

    def __init__(self, display: RichProgress) -> None:
        self._display = display
        self._phase: str | None = None
        self._bar: TaskID | None = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None or progress.phase != self._phase:
            self._phase = progress.phase
            self._bar = self._display.add_task(progress.phase, total=None, detail="")
        self._display.update(self._bar, completed=progress.step, total=progress.total or None, detail=progress.detail)


@contextmanager
def progress_reporter(stream: TextIO | None = None) -> Iterator[OnProgress]:
    """A callback for `on_progress`: bars where `stream` is a terminal, plain lines elsewhere.

    Args:
        stream: where progress is shown; None for standard error.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield PlainLines(stream)
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with RichProgress(*columns, console=Console(file=stream), redirect_stdout=False) as display:
        yield Bars(display)

"""What the command line prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fedunlearn.progress import OnProgress, progress_reporter
from fedunlearn.reports.document import joined

if TYPE_CHECKING:
    from rich.console import RenderableType

# Tables are laid out for this width where there is no terminal to ask.
PLAIN_WIDTH = 120
SENTENCES = frozenset({"remarks", "reason"})
"""What is said in whole sentences: a column of several records would make a word a line of them."""


@dataclasses.dataclass(frozen=True)
class Output:
    """Where one command puts its answer.

    Args:
        stream: standard output as it was when the command began.
        as_json: True: one JSON document; False: text and tables for a person.
        on_progress: for the call's `on_progress`.
        end_progress: takes the bars off the terminal; an answer would be written into them.
    """

    stream: TextIO
    as_json: bool
    on_progress: OnProgress
    end_progress: Callable[[], None]

    def answer(self, document: Any, *shown: RenderableType) -> None:
        """Print `document` as JSON, or else what is `shown` to a person."""
        self.end_progress()
        if self.as_json:
            print_json(document, self.stream)
            return
        self._print(*shown)

    def say(self, *shown: RenderableType) -> None:
        """Show a person something before the answer; nothing where the answer is JSON, which has it in it."""
        if not self.as_json:
            self._print(*shown)

    def _print(self, *shown: RenderableType) -> None:
        from rich.console import Console

        width = None if self.stream.isatty() else PLAIN_WIDTH
        console = Console(file=self.stream, width=width, highlight=False, markup=False)
        for part in shown:
            console.print(part, soft_wrap=isinstance(part, str))


@contextmanager
def command_output(as_json: bool) -> Iterator[Output]:
    """The `Output` of one command; while it runs, whatever any library prints goes to standard error."""
    stream = sys.stdout
    with redirect_stdout(sys.stderr), ExitStack() as progress:
        yield Output(stream, as_json, progress.enter_context(progress_reporter()), progress.close)


def facts(record: Any) -> RenderableType:
    """A record as lines of name and value; several records as a table."""
    if isinstance(record, (list, tuple)):
        if len(record) != 1:
            # The name of a branch is as long as half of the others together; JSON has it.
            return table([{name: value for name, value in plain(one).items() if name != "branch"} for one in record])
        record = record[0]
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for name, value in plain(record).items():
        grid.add_row(_words(name), _cell(value))
    return grid


def table(records: Sequence[Any]) -> RenderableType:
    """Records of one kind as a table, one row each; sentences follow, a line each that begins with the first cell."""
    from rich.console import Group
    from rich.table import Table

    rows = [plain(record) for record in records]
    names = [name for name in rows[0] if name not in SENTENCES] if rows else []
    shown = Table()
    for name in names:
        # An id that is cut off could not be given to the next command.
        shown.add_column(_words(name), overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row[name]) for name in names))
    said = [(_cell(row[names[0]]), _cell(row[name])) for row in rows for name in row if name in SENTENCES and row[name]]
    return Group(shown, *(f"{first}: {sentence}" for first, sentence in said))


def estimates(choice: Any) -> list[dict[str, Any]]:
    """The candidates of a choice of method as rows: what each would cost, or why it cannot serve.

    Those that are never chosen, controls and baselines, have none.
    """
    rows = []
    for one in plain(choice)["candidates"]:
        if not one["earnest"]:
            continue
        cost = one["estimate"] or {"rounds": None, "bytes": None, "client_seconds": None}
        rows.append({"method": one["method"], "serves": "yes" if one["serves"] else one["why_not"], **cost})
    return rows


def command(*words: object) -> str:
    """A command of this program as it is typed, whatever blanks a folder's name has."""
    return shlex.join(["fedunlearn", *map(str, words)])


def print_json(document: Any, stream: TextIO) -> None:
    """Write `document` as one line-broken JSON document."""
    print(json.dumps(plain(document), indent=2, allow_nan=False), file=stream, flush=True)


def print_error(sentence: str, as_json: bool) -> None:
    """Write `sentence` on standard error and, with `as_json`, `{"error": sentence}` on standard output."""
    one_line = " ".join(sentence.split())
    print(f"Error: {one_line}", file=sys.stderr, flush=True)
    if as_json:
        print_json({"error": one_line}, sys.stdout)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: records become objects, NaN and infinities null, paths text.

    Raises:
        TypeError: for what has no plain form.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} has no JSON form.")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return joined([_cell(item) for item in value]) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {_cell(item)}" for key, item in value.items()) or "-"
    # Twelve digits of a SHA-256 are enough to tell models apart by eye; JSON has all of them.
    return value[:12] if re.fullmatch("[0-9a-f]{64}", str(value)) else str(value)

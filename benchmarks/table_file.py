"""The end of every benchmark: its table is printed, and written where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def show(lines: Sequence[str], out: Path | None) -> None:
    """Print the lines, and write them to `out`; None: nowhere."""
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")

"""The folder where downloaded and decoded data is kept."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FEDUNLEARN_DATA"


def cache_folder() -> Path:
    """`$FEDUNLEARN_DATA`, or `~/.cache/fedunlearn/data`; it need not exist yet."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "fedunlearn" / "data"

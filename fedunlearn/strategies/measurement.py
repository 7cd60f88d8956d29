"""How a measurement is asked for and answered: names that server, client and guard agree on."""

from __future__ import annotations

MEASURE = "evaluate.measure"
"""The message's type."""

PICTURES = "evaluate.pictures"
"""The type of the message that has a client render pictures for itself."""

MEASURED = "/"
"""Joins place number, metric, role and name of a finding."""


def model_record_name(position: int) -> str:
    """Name of the array record of the model at `position` in the message's list."""
    return f"model-{position}"

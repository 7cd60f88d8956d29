"""What the ledger knows of shadows: originals of an audit's own, trained on the forgotten data and unlearned again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedunlearn.server.ledger import Ledger

RECORDED = "shadow-model"
"""The event of a finished shadow: its "digest", "number", the requests that it is "of", and those it is "without"."""


def record_shadow(ledger: Ledger, detail: Mapping[str, Any]) -> None:
    """Write a shadow into the ledger, once."""
    same = ("key", "number", "digest")
    known = [[event.detail[name] for name in same] for event in ledger.events(RECORDED)]
    if [detail[name] for name in same] not in known:
        ledger.append_event(RECORDED, dict(detail))

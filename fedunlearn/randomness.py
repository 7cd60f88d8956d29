"""Seeds: every random choice takes its own, derived from what the choice is for."""

from __future__ import annotations

import hashlib
import json


def derive_seed(*parts: str | int) -> int:
    """A seed (0 to 2**63 - 1) that depends on every part, in order, and on nothing else.

    Equal parts give equal seeds in every process and on every machine; `"1"` and `1` are different parts.
    """
    text = json.dumps([str(part) if isinstance(part, str) else int(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

"""One torch thread wherever clients and server compute: more would change the sums, and so the digests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def use_one_torch_thread() -> None:
    """Set one torch thread for the calling thread; does nothing while torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads") and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Use one torch thread in the block, then as many as before."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    use_one_torch_thread()
    try:
        yield
    finally:
        if torch is not None and before is not None and torch.get_num_threads() != before:
            torch.set_num_threads(before)

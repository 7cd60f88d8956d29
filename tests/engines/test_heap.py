from __future__ import annotations

import gc
import weakref

import pytest

from fedunlearn.engines.heap import heap_set_aside


class Ring:
    """Garbage that only a search finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_is_set_aside_and_what_comes_is_not() -> None:
    old = Ring()
    gone_old = weakref.ref(old)
    with heap_set_aside():
        new = Ring()
        gone_new = weakref.ref(new)
        del old, new
        gc.collect()
        assert gone_old() is not None and gone_new() is None
    gc.collect()
    assert gone_old() is None


def test_it_ends_with_an_error_and_nests() -> None:
    with pytest.raises(ZeroDivisionError), heap_set_aside(), heap_set_aside():
        1 / 0  # noqa: B018
    assert gc.get_freeze_count() == 0


def test_whoever_has_set_objects_aside_keeps_them_so() -> None:
    gc.freeze()
    try:
        with heap_set_aside():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()

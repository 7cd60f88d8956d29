from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.clients.site_cache import BoundedCache


def test_what_was_used_last_stays() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key

    cache = BoundedCache[str](budget=30, size=lambda _: 10)
    for key in "abcadab":
        assert cache.get(key, lambda key=key: make(key)) == key  # type: ignore[misc]
    # b made room for d, being the longest unused, and c for b.
    assert "".join(made) == "abcdb"
    assert len(cache) == 3 and cache.bytes == 30


def test_one_that_is_larger_than_the_budget_is_kept_alone() -> None:
    cache = BoundedCache[int](budget=30, size=lambda size: size)
    for size in (10, 10, 100):
        cache.get(object(), lambda size=size: size)  # type: ignore[misc]
    assert len(cache) == 1 and cache.bytes == 100


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), max_size=60), st.integers(1, 100))
def test_the_budget_holds_and_the_sum_is_right(uses: list[tuple[int, int]], budget: int) -> None:
    cache = BoundedCache[tuple[int, int]](budget, lambda made: made[1])
    for key, size in uses:
        made = cache.get(key, lambda key=key, size=size: (key, size))  # type: ignore[misc]
        assert made[0] == key
        assert cache.bytes == sum(size for _, size in cache._kept.values())
        assert cache.bytes <= budget or len(cache) == 1

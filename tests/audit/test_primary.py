from __future__ import annotations

from itertools import chain, combinations

import pytest

from fedunlearn.announcement import check_scope
from fedunlearn.audit.primary import CANARIES, TRIGGERED, UNTRIGGERED, primary_metrics
from fedunlearn.audit.verdict import MOST_METRICS

SCOPES = ("client", "classes", "samples", "class-everywhere")
PARTS = (TRIGGERED, UNTRIGGERED, CANARIES)


def subsets(items: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(items, size) for size in range(len(items) + 1)))


@pytest.mark.parametrize("parts", subsets(PARTS))
@pytest.mark.parametrize("scopes", [one for one in subsets(SCOPES) if one])
def test_every_request_has_few_metrics_of_both_kinds(scopes: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert all(check_scope(scope) for scope in scopes)
    chosen = primary_metrics(scopes, parts)
    assert 2 <= len(chosen) <= MOST_METRICS
    assert len({metric.name for metric in chosen}) == len(chosen)
    assert [metric.kind for metric in chosen] == ["removal"] * (len(chosen) - 1) + ["utility"]
    assert all(metric.why.endswith(".") for metric in chosen)

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


@pytest.mark.parametrize("parts", subsets(PARTS))
@pytest.mark.parametrize("scopes", [one for one in subsets(SCOPES) if one])
def test_without_classes_to_answer_with_nothing_is_made_of_them(
    scopes: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    chosen = primary_metrics(scopes, parts, class_scores=False)
    assert 2 <= len(chosen) <= MOST_METRICS and chosen[-1].kind == "utility"
    assert not [one for one in chosen if "accuracy" in one.name or one.name in ("class_detection", "class_direction")]
    assert chosen[-1].name in ("test_loss", "kept_classes_loss") and chosen[-1].transform == "log"
    assert all(metric.kind == "removal" and metric.why.endswith(".") for metric in chosen[:-1])


def test_a_client_that_planted_a_pattern_is_judged_by_it_and_by_its_ordinary_images() -> None:
    chosen = primary_metrics(["client"], [TRIGGERED, UNTRIGGERED], class_scores=False)
    assert [one.name for one in chosen] == ["backdoor_success", "untriggered_loss", "test_loss"]

"""Loss-threshold membership inference: does the forget set still look like training data? (Yeom et al. 2018)

The client's half is `fedunlearn.audit.loss_histogram.histogram`. The value to compare with is the retrained
model's own, on the same samples; 0.5 by itself proves nothing, and far below 0.5 gives membership away as
much as far above.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedunlearn.errors import DataError

Histogram = Sequence[int | float]


def auc(members: Histogram | None, nonmembers: Histogram | None) -> float | None:
    """Probability that a member's loss is lower than a non-member's, ties counting half: 0 to 1, chance 0.5.

    Both are histograms over the same bins, weights allowed. Two losses in one bin are a tie. None where
    either was withheld or is empty.

    Raises:
        DataError: the histograms have different bins.
    """
    if members is None or nonmembers is None:
        return None
    if len(members) != len(nonmembers):
        raise DataError(
            f"the histograms to compare have {len(members)} and {len(nonmembers)} bins; use the same bins for both."
        )
    member_total, nonmember_total = sum(members), sum(nonmembers)
    if not member_total or not nonmember_total:
        return None
    wins, above = 0.0, float(nonmember_total)
    for inside, outside in zip(members, nonmembers, strict=True):
        above -= outside
        wins += inside * (above + 0.5 * outside)
    return wins / (member_total * nonmember_total)


def two_sided(value: float | None) -> float | None:
    """The AUC of an attacker who may turn the score round: max(a, 1 - a), 0.5 to 1."""
    return None if value is None else max(value, 1.0 - value)


def match_classes(by_class: Sequence[Histogram], wanted: Sequence[int | float]) -> list[float] | None:
    """Non-member histogram with the classes in the forget set's proportions, so that classes explain nothing.

    Args:
        by_class: K histograms of unseen samples, one a class.
        wanted: how many samples of each class the forget set has, K counts.

    Returns:
        A weighted histogram; classes without unseen samples are left out, None where none is left.
    """
    matched: list[float] | None = None
    for histogram, weight in zip(by_class, wanted, strict=True):
        samples = sum(histogram)
        if weight <= 0 or not samples:
            continue
        scaled = [weight * value / samples for value in histogram]
        matched = scaled if matched is None else [a + b for a, b in zip(matched, scaled, strict=True)]
    return matched

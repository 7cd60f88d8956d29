"""True positive rate at a small false positive rate: how many members are given away almost surely?

Carlini et al. 2022 ("Membership inference attacks from first principles"): an average attack accuracy near chance
can hide a few samples that anybody can pick out.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedunlearn.audit.metric import Value
from fedunlearn.errors import DataError

Histogram = Sequence[int | float]

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
LEAST_FALSE_POSITIVES = 10
"""With fewer non-members above the threshold than this, the rate is decided by single samples."""


def tpr_at(members: Histogram, nonmembers: Histogram, rate: float) -> Value:
    """Share of members beyond a threshold that at most the share `rate` of the non-members are beyond.

    Two-sided: the better of the two attackers who take high scores, and low ones, for membership. The threshold lies
    between two bins, never inside one, so that the stated false positive rate is really kept.

    Args:
        members: histogram of the members' scores.
        nonmembers: the same bins; weights allowed, the sum being the number of samples that they are worth.
        rate: above 0, below 1.

    Returns:
        A rate of the members; refused where fewer than 10 non-members may lie beyond the threshold.

    Raises:
        DataError: the histograms have different bins.
    """
    if len(members) != len(nonmembers):
        raise DataError(
            f"the histograms to compare have {len(members)} and {len(nonmembers)} bins; use the same bins for both."
        )
    inside, outside = sum(members), sum(nonmembers)
    # A weighted sum of counts may miss a whole number by rounding.
    if not inside or outside * rate < LEAST_FALSE_POSITIVES * (1 - 1e-9):
        needed = round(LEAST_FALSE_POSITIVES / rate)
        return Value.refusal(
            f"a true positive rate at a false positive rate of {rate:g} needs {needed} non-members and one member; "
            f"there are {int(outside)} and {int(inside)}."
        )
    best = max(
        _one_sided(members, nonmembers, rate * outside),
        _one_sided(members[::-1], nonmembers[::-1], rate * outside),
    )
    return Value.rate(best / inside, float(inside))


def _one_sided(members: Histogram, nonmembers: Histogram, allowed: float) -> float:
    """Members in the last bins, as many bins as hold no more than `allowed` non-members."""
    caught = passed = 0.0
    for inside, outside in zip(reversed(members), reversed(nonmembers), strict=True):
        passed += outside
        if passed > allowed * (1 + 1e-9):
            break
        caught += inside
    return caught

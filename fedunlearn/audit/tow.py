"""Tug of war: forgetting and utility in one number (Zhao et al. 2024, "What makes unlearning hard", RUM)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedunlearn.audit.distance import gap

FORGET, RETAIN, TEST, MEMBERSHIP = "forget_accuracy", "retain_accuracy", "test_accuracy", "membership_auc"
TUG_OF_WAR = (FORGET, RETAIN, TEST)
TUG_OF_WAR_BY_MEMBERSHIP = (MEMBERSHIP, RETAIN, TEST)
"""The variant that judges forgetting by the membership attack in place of the accuracy."""


def tug_of_war(
    values: Mapping[str, float | None],
    retrained: Mapping[str, float | None],
    splits: Sequence[str] = TUG_OF_WAR,
) -> float | None:
    """Product over the splits of 1 - |value - retrained value|: 0 to 1, and 1 is the retrained model.

    None where a split is unknown for one of the two: a product of fewer would be larger than it is.

    Args:
        values: shares from 0 to 1, by name.
        retrained: the same of the retrained model.
    """
    gaps = [gap(values.get(split), retrained.get(split)) for split in splits]
    known = [abs(one) for one in gaps if one is not None]
    return math.prod(1.0 - size for size in known) if len(known) == len(gaps) else None

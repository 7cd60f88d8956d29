"""Methods made for one machine, carried into a federation: the target computes on the forget set, others on theirs."""

from fedunlearn.strategies.centralised import (
    bad_teacher,
    boundary_shrink,
    der_plus_plus,
    ewc,
    fisher_forgetting,
    l1_sparse,
    lwf,
    neggrad_plus,
    random_label,
    salun,
    scrub,
    ssd,
    unsir,
)

__all__ = [
    "bad_teacher",
    "boundary_shrink",
    "der_plus_plus",
    "ewc",
    "fisher_forgetting",
    "l1_sparse",
    "lwf",
    "neggrad_plus",
    "random_label",
    "salun",
    "scrub",
    "ssd",
    "unsir",
]

"""Comparators that are federated in their own papers, each one file."""

from fedunlearn.strategies.federated import (
    adapters,
    auxiliary_head,
    class_pruning,
    conda,
    federaser,
    fedrecover,
    information_reset,
    knowledge_distillation,
    orthogonal_descent,
    projected_ascent,
    quickdrop,
    rapid_retraining,
    selective_channels_paper,
    weight_negation,
)

__all__ = [
    "adapters",
    "auxiliary_head",
    "class_pruning",
    "conda",
    "federaser",
    "fedrecover",
    "information_reset",
    "knowledge_distillation",
    "orthogonal_descent",
    "projected_ascent",
    "quickdrop",
    "rapid_retraining",
    "selective_channels_paper",
    "weight_negation",
]

"""Which metric belongs to which tier of an audit, and why: one table.

quick costs less than a round of training; standard less than one retraining a reference model; full takes what it
takes. Each metric declares its own tier; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedunlearn.audit.metric import Tier


@dataclass(frozen=True)
class Placed:
    """A metric's tier and the reason for it, in one sentence."""

    tier: Tier
    why: str


TIERS: Mapping[str, Placed] = {
    "harm": Placed("quick", "Two forward passes over each client's held-out samples."),
    "retrain_gap": Placed("quick", "Forward passes alone, where a retrained model is there already."),
    "agreement": Placed("quick", "Two forward passes over the forget set and the test set."),
    "membership_auc": Placed("quick", "Forward passes over the forget set and unseen samples."),
    "entropy_attack": Placed("quick", "The same answers as for the loss, and a regression on a few hundred bins."),
    "reconstruction": Placed("quick", "A forward pass over everybody's images, and a Gaussian window over each."),
    "reconstruction_gap": Placed("quick", "Two such passes, where a retrained model is there already."),
    "out_of_distribution": Placed("quick", "Two forward passes over the forget set, one over held-out images."),
    "reconstruction_attack": Placed("quick", "Forward passes over the forget set and unseen images."),
    "proxy_quality": Placed("standard", "Trains a small classifier at the server for each audited model."),
    "weight_distance": Placed("standard", "Arithmetic alone, but its scale needs two retrained models."),
    "probe": Placed("standard", "Features of everybody's samples: a forward pass over all data for each model."),
    "relearning": Placed("standard", "Trains a copy at the target, five passes at most."),
    "resurfacing": Placed("standard", "Takes one ordinary round around each audited model."),
    "difference_attack": Placed("standard", "Forward passes alone, but an attack that says little of forgetting."),
    "mask_leakage": Placed("standard", "Attributes every sample by itself: a backward pass for each."),
    "rmia_auc": Placed("standard", "Two to eight retrained models stand in its denominator."),
    "lira_auc": Placed("standard", "Needs several retrained models for the mean of a sample's margin."),
    "fedmia_auc": Placed("standard", "Takes one ordinary round around each audited model."),
    "inversion": Placed("full", "Paints inputs by gradient ascent, for each class of each target."),
    "gradient_leakage": Placed("full", "Differentiates twice at every step, at every client."),
    "u_lira_auc": Placed("full", "Needs other originals that went through the same unlearning."),
    "epsilon_score": Placed("full", "Needs many unlearned models and as many retrained ones."),
}

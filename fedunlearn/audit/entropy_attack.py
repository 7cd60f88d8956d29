"""Membership inference from the entropy of the answers, by logistic regression, k-fold (Salem et al. 2019).

Public implementations gather every sample's entropy in one place. Here bins meet, and each sample stands in the
middle of its bin: a *reconstruction*. The value to compare with is the retrained model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.margin import spread_edges
from fedunlearn.audit.membership import Histogram
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples

NAME = "entropy_attack"
FOLDS = 5
# A sure answer looks like a member's, so that the score is the negative entropy; 7 nats are a thousand classes.
EDGES = tuple(edge for edge in spread_edges(7.0, 0.001, 599) if edge <= 0)


def entropies(logits: Tensor) -> Tensor:
    """Entropy of each row's softmax in nats, (N,), float64, 0 to log K.

    Args:
        logits: N x K.
    """
    log_shares = logits.detach().double().log_softmax(dim=1)
    return -(log_shares.exp() * log_shares).sum(dim=1)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the negative entropies."""

    def score(samples: Samples) -> Tensor:
        return -entropies(subject.evaluate(subject.model, samples).logits)

    return score_attack.measure(subject, score, EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Balanced accuracy of the regression, and the AUC of the entropy itself."""
    sides = score_attack.sides(gathered, len(EDGES) + 1)
    names = (NAME, f"{NAME}.auc")
    if isinstance(sides, str):
        return dict.fromkeys(names, Value.refusal(f"{NAME} {sides}"))
    inside, outside = sides
    area = score_attack.values_of(f"{NAME}.auc", inside, outside)[f"{NAME}.auc"]
    smaller = min(sum(inside), sum(outside))
    if smaller < MINIMUM_SAMPLES:
        why = f"{NAME} needs {MINIMUM_SAMPLES} unseen samples to train its regression on; they are worth {smaller:g}."
        return {NAME: Value.refusal(why), f"{NAME}.auc": area}
    share = balanced_accuracy(inside, outside, gathered.seed)
    return {NAME: Value.rate(share, 2 * smaller), f"{NAME}.auc": area}


def balanced_accuracy(inside: Histogram, outside: Histogram, seed: int) -> float:
    """Mean of the rates at which members and non-members are recognised by a regression that did not see them.

    Args:
        inside: histogram of the members over `EDGES`.
        outside: the same of the non-members; weights are rounded so that their sum stays.
        seed: of the folds.
    """
    values = np.concatenate([_centres(inside), _centres(outside)])
    truth = np.repeat([1, 0], [len(values) - round(sum(outside)), round(sum(outside))])
    return cross_validated(values, truth, seed)


def cross_validated(values: np.ndarray, truth: np.ndarray, seed: int) -> float:
    """k-fold balanced accuracy of a logistic regression from one value a sample (N,) to 0 or 1 (N,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Unscaled, a model's entropies of a thousandth and less would be lost in the regression's penalty.
    regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    said = cross_val_predict(regression, values[:, None], truth, cv=folds)
    return float((said[truth == 1].mean() + (1 - said[truth == 0]).mean()) / 2)


def _centres(bins: Histogram) -> np.ndarray:
    """The entropy in the middle of each sample's bin."""
    edges = np.asarray(EDGES)
    centres = -np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    return np.repeat(centres, _whole(bins))


def _whole(bins: Sequence[int | float]) -> np.ndarray:
    """Whole numbers that add up to the rounded sum, those with the largest remainders rounded up."""
    exact = np.asarray(bins, dtype=np.float64)
    rounded = np.floor(exact + 1e-9).astype(np.int64)
    missing = round(float(exact.sum())) - int(rounded.sum())
    rounded[np.argsort(rounded - exact, kind="stable")[:missing]] += 1
    return rounded

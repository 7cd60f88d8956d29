"""A membership attack by logistic regression on one number a sample, of which only histograms are known.

Each sample stands in the middle of its bin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedunlearn.audit.membership import Histogram

FOLDS = 5


def balanced_accuracy(inside: Histogram, outside: Histogram, values: np.ndarray, seed: int) -> float:
    """Mean of the rates at which members and non-members are recognised by a regression that did not see them.

    Args:
        inside: histogram of the members, `FOLDS` of them at least.
        outside: the same of the non-members; weights are rounded so that their sum stays.
        values: what a sample of each bin stands for, one a bin.
        seed: of the folds.
    """
    members, others = (np.repeat(values, _whole(bins)) for bins in (inside, outside))
    truth = np.repeat([1, 0], [len(members), len(others)])
    return cross_validated(np.concatenate([members, others]), truth, seed)


def centres(edges: Sequence[float]) -> np.ndarray:
    """The middle of each bin, one more than there are edges; the two open ones stand at their edge."""
    known = np.asarray(edges)
    return np.concatenate([known[:1], (known[1:] + known[:-1]) / 2, known[-1:]])


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


def _whole(bins: Histogram) -> np.ndarray:
    """Whole numbers that add up to the rounded sum, those with the largest remainders rounded up."""
    exact = np.asarray(bins, dtype=np.float64)
    rounded = np.floor(exact + 1e-9).astype(np.int64)
    missing = round(float(exact.sum())) - int(rounded.sum())
    rounded[np.argsort(rounded - exact, kind="stable")[:missing]] += 1
    return rounded

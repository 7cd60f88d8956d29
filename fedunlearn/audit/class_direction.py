"""Do the features still keep a direction for a class, or was only the head fooled?

A network that learns a class gives it a direction of its own in the features: class means move apart and samples
gather around them ("neural collapse", Papyan, Han and Donoho 2020). In a network that never saw the class, its samples
are laid out between the other classes: their mean is nearly a mixture of the others' means. How far it is from all such
mixtures, in units of the spread within classes, tells the two apart much better than the accuracy of a linear probe,
which either of them lets succeed. A fresh head on old features leaves it as it was. The measure is this project's own.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from fedunlearn.errors import DataError

FEWEST = 2
"""Samples a class that its spread can be told from."""


def class_direction(features: Tensor, labels: Tensor, classes: Collection[int]) -> float | None:
    """Squared distance of the classes' mean features from the span of all others', by the spread within classes.

    0 upwards; larger means that the features were made with the class. It stays the same when all features are scaled,
    moved or rotated. The mean over `classes`.

    Args:
        features: what goes into the output layer, N x D.
        labels: int64, (N,).
        classes: whose direction is asked for.

    Returns:
        None where features have too few dimensions for the others' means to leave one free, or all samples of each
        class have the same features.

    Raises:
        DataError: a class is asked for, or is the only other, that has fewer than two samples.
    """
    known = [int(one) for one in labels.unique() if int((labels == one).sum()) >= FEWEST]
    others = [one for one in known if one not in classes]
    if not classes or not set(classes) <= set(known) or not others:
        raise DataError("a class's direction needs two samples of it, and two of another class.")
    if features.shape[1] < len(others):
        return None
    inputs = features.double()
    means = {one: inputs[labels == one].mean(dim=0) for one in known}
    spread = float(torch.stack([inputs[labels == one].var(dim=0).sum() for one in known]).mean())
    if not spread > 0:
        return None
    centre = torch.stack([means[one] for one in others]).mean(dim=0)
    span = torch.linalg.qr(torch.stack([means[one] - centre for one in others[1:]]).T)[0] if others[1:] else None
    outside = []
    for one in classes:
        own = means[one] - centre
        if span is not None:
            own = own - span @ (span.T @ own)
        outside.append(float(own.square().sum()))
    return sum(outside) / len(outside) / spread

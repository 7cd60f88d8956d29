"""What one client holds: its share of the data, planted, and what of it may be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.identity import ByIdentity
from fedunlearn.data.partition import partition_indices
from fedunlearn.data.planting import ORDINARY, Backdoor, Canaries, plant
from fedunlearn.data.server_share import server_positions
from fedunlearn.data.splitting import complement, stratified_positions
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.randomness import derive_seed


@dataclass(frozen=True)
class Holding:
    """A client's samples; a sample's position here is the index that its owner knows it by.

    Args:
        client: whose they are.
        samples: with what was planted.
        parts: N strings, "ordinary", "triggered" or "canaries".
        true_labels: N, the labels before planting.
        held_out: sorted positions that are never trained on, drawn class by class; nothing planted is among them.
    """

    client: int
    samples: Samples
    parts: np.ndarray
    true_labels: Tensor
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)

    def classes_held(self) -> dict[int, int]:
        """How many samples there are of each label, by the labels that they are trained with."""
        values, counts = np.unique(self.samples.labels.numpy(), return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}

    def select(self, classes: Sequence[int] | None = None, samples: Sequence[int] | None = None) -> np.ndarray:
        """Sorted positions of the samples of `classes` and of the `samples` named; both None for all.

        Raises:
            RequestError: a class that is not held, an index out of range, or nothing selected.
        """
        if classes is None and samples is None:
            return np.arange(len(self))
        chosen = np.zeros(len(self), dtype=bool)
        held = self.classes_held()
        for label in classes or ():
            if label not in held:
                there = ", ".join(str(value) for value in held)
                raise RequestError(f"client {self.client} holds no sample of class {label}; classes there: {there}.")
            chosen |= self.samples.labels.numpy() == label
        for position in samples or ():
            if not 0 <= position < len(self):
                raise RequestError(
                    f"client {self.client} has no sample {position}; its samples are 0 to {len(self) - 1}."
                )
            chosen[position] = True
        if not chosen.any():
            raise RequestError(
                f"client {self.client} is to delete no sample; name a class or a sample, or neither for all."
            )
        return np.flatnonzero(chosen)

    def training_positions(self, forgotten: np.ndarray | Sequence[int] = ()) -> np.ndarray:
        """Sorted positions that may be trained on: neither held out nor `forgotten`."""
        out = np.union1d(self.held_out, np.asarray(forgotten, dtype=np.int64))
        return complement(out, len(self))


def holding(settings: FederationSettings, client: int, dataset: Dataset) -> Holding:
    """What `client` holds in the federation of `settings`; equal settings give equal holdings.

    Raises:
        SettingsError: there is no such client, its data cannot be shared out or planted as the settings say.
    """
    if not 0 <= client < settings.clients:
        raise SettingsError(f"there is no client {client}; clients are 0 to {settings.clients - 1}.")
    backdoor = Backdoor.parse(settings.backdoor) if settings.backdoor else None
    canaries = Canaries.parse(settings.canaries) if settings.canaries else None
    for option, planting in (("backdoor", backdoor), ("canaries", canaries)):
        if planting is not None and planting.client >= settings.clients:
            raise SettingsError(
                f"{option}: there is no client {planting.client}; clients are 0 to {settings.clients - 1}."
            )
    data, partition = ByIdentity(dataset), (settings.partition, settings.clients, settings.seed)
    indices = _shares(data, *partition, settings.server_data)[client]
    own = dataset.train.take(indices)
    generator = np.random.default_rng(derive_seed("held-out", settings.seed, client))
    held_out = stratified_positions(own.labels.numpy(), settings.held_out, generator)
    # What is held out is never trained on, so that only the rest can be planted.
    trained = complement(held_out, len(own))
    planted = plant(own.take(trained), client, backdoor, canaries, len(dataset.classes), settings.seed, dataset.painted)
    inputs, labels = own.inputs.clone(), own.labels.clone()
    parts = np.full(len(own), ORDINARY, dtype=planted.parts.dtype)
    inputs[trained], labels[trained] = planted.samples.inputs, planted.samples.labels
    parts[trained] = planted.parts
    return Holding(client, Samples(inputs, labels), parts, own.labels, held_out)


@lru_cache(maxsize=4)
def _shares(
    data: ByIdentity[Dataset], spec: str, clients: int, seed: int, server_data: float = 0.0
) -> tuple[np.ndarray, ...]:
    """Sharing out takes seconds on a large data set, and every client of a process asks for it."""
    columns = data.item.columns
    if server_data:
        rest = complement(server_positions(columns["label"], server_data, seed), len(data.item.train))
        left = {name: np.asarray(values)[rest] for name, values in columns.items()}
        shares = [rest[share] for share in partition_indices(left, spec, clients, seed)]
    else:
        shares = partition_indices(columns, spec, clients, seed)
    for share in shares:
        share.setflags(write=False)
    return tuple(shares)

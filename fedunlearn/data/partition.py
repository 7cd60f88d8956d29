"""Which client owns which training samples, by the partitioners of flwr-datasets."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

import numpy as np

from fedunlearn.errors import SettingsError
from fedunlearn.randomness import derive_seed

FORMS = "iid, dirichlet:A (A above 0), pathological:K (K classes a client) or by:COLUMN"
USUAL_SMALLEST_SHARE = 10
"""Samples that a Dirichlet partition tries to give every client before it settles for one."""
DEALS_TRIED = 200
"""Pathological assignments of classes to clients that are tried until every class has an owner."""


def partition_indices(columns: Mapping[str, np.ndarray], spec: str, clients: int, seed: int) -> list[np.ndarray]:
    """Share samples among clients: one sorted int64 array of sample indices for each client.

    Every sample goes to exactly one client, and every client gets at least one. Equal arguments give equal
    shares.

    Args:
        columns: one value per sample and column; "label" must be there.
        spec: `iid`; `dirichlet:A`, each class shared out by a Dirichlet(A) draw (Yurochkin et al., 2019; the
            smaller A, the more unlike the clients); `pathological:K`, exactly K classes a client (Li et al.,
            2022); `by:COLUMN`, one client for each value of a column, in sorted order.
        clients: how many.
        seed: decides everything random.

    Raises:
        SettingsError: the spec cannot be read, or this data cannot be shared out that way.
    """
    labels = np.asarray(columns["label"])
    if not 1 <= clients <= len(labels):
        raise SettingsError(f"{len(labels)} samples cannot be shared among {clients} clients; give 1 to {len(labels)}.")
    form, _, argument = spec.partition(":")
    if spec == "iid":
        return _iid(labels, clients, seed)
    if form == "dirichlet" and (alpha := _number(argument)) > 0:
        return _dirichlet(labels, alpha, clients, seed)
    if form == "pathological" and argument.isdecimal() and int(argument) > 0:
        return _pathological(labels, int(argument), clients, seed)
    if form == "by" and argument:
        return _by_column(columns, argument, clients)
    raise SettingsError(f"partition {spec!r} cannot be read; expected {FORMS}.")


def _number(text: str) -> float:
    """The finite number that `text` says, or 0."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def _iid(labels: np.ndarray, clients: int, seed: int) -> list[np.ndarray]:
    from flwr_datasets.partitioner import IidPartitioner

    # Flower's partitioner cuts the data where it stands, and data often comes sorted by class.
    order = np.random.default_rng(derive_seed("partition", "iid", seed)).permutation(len(labels))
    return [np.sort(order[share]) for share in _shares(IidPartitioner(clients), labels, clients)]


def _dirichlet(labels: np.ndarray, alpha: float, clients: int, seed: int) -> list[np.ndarray]:
    from flwr_datasets.partitioner import DirichletPartitioner

    usual = min(USUAL_SMALLEST_SHARE, len(labels) // clients)
    reason: ValueError | None = None
    for smallest in sorted({usual, 1}, reverse=True):
        partitioner = DirichletPartitioner(
            num_partitions=clients,
            partition_by="label",
            alpha=alpha,
            min_partition_size=smallest,
            seed=derive_seed("partition", "dirichlet", seed),
        )
        try:
            return _shares(partitioner, labels, clients)
        except ValueError as error:
            reason = error
    raise SettingsError(
        f"dirichlet:{alpha:g} left one of {clients} clients without a sample in every attempt; "
        "raise the number after the colon or lower the number of clients."
    ) from reason


def _pathological(labels: np.ndarray, per_client: int, clients: int, seed: int) -> list[np.ndarray]:
    from flwr_datasets.partitioner import PathologicalPartitioner

    classes = np.unique(labels)
    if per_client > len(classes):
        raise SettingsError(
            f"pathological:{per_client} asks for {per_client} classes a client and there are {len(classes)}; "
            "lower the number."
        )

    def partitioner(deal: int) -> PathologicalPartitioner:
        return PathologicalPartitioner(
            num_partitions=clients,
            partition_by="label",
            num_classes_per_partition=per_client,
            class_assignment_mode="first-deterministic",
            seed=derive_seed("partition", "pathological", seed, deal),
        )

    # Classes are dealt at random, so that some may be left with nobody, and their samples with them. The deal
    # depends on the seed alone: one row for each class and client shows it without touching the data.
    small = np.repeat(classes, clients)
    for deal in range(DEALS_TRIED if per_client * clients >= len(classes) else 0):
        dealt = np.concatenate(_shares(partitioner(deal), small, clients))
        if len(np.unique(small[dealt])) < len(classes):
            continue
        try:
            return _shares(partitioner(deal), labels, clients)
        except ValueError as error:
            raise SettingsError(
                f"pathological:{per_client} over {clients} clients gives a class to more clients than it has "
                "samples; lower the number of clients or of classes a client."
            ) from error
    raise SettingsError(
        f"pathological:{per_client} over {clients} clients leaves some of the {len(classes)} classes with "
        "nobody; raise the number of clients or of classes a client."
    )


def _by_column(columns: Mapping[str, np.ndarray], column: str, clients: int) -> list[np.ndarray]:
    from flwr_datasets.partitioner import NaturalIdPartitioner

    if column not in columns:
        known = ", ".join(sorted(columns))
        raise SettingsError(f"partition by:{column}: the data has no such column; it has {known}.")
    owners = len(np.unique(columns[column]))
    if owners != clients:
        raise SettingsError(
            f"partition by:{column}: the column has {owners} values and {clients} clients were asked for; "
            f"ask for {owners}."
        )
    return _shares(NaturalIdPartitioner(partition_by="label"), np.asarray(columns[column]), clients)


def _shares(partitioner: Any, values: np.ndarray, clients: int) -> list[np.ndarray]:
    """What `partitioner` gives each client of the rows whose column "label" is `values`; sorted row numbers.

    Raises ValueError where the partitioner cannot do it.
    """
    from datasets import Dataset  # type: ignore[import-untyped]

    # One of them draws a bar of its own, which nothing switches off.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        # The partitioners warn about each attempt; the caller hears of the outcome.
        warnings.simplefilter("ignore")
        partitioner.dataset = Dataset.from_dict({"label": values.tolist(), "row": np.arange(len(values))})
        parts = [partitioner.load_partition(client) for client in range(clients)]
    return [np.sort(np.asarray(part["row"], dtype=np.int64)) for part in parts]

"""The data of the training jobs: the very samples that the clients of a federation of ours hold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedunlearn.config import FederationSettings
from fedunlearn.data.holding import holding
from fedunlearn.tasks import get_task


def write_client_data(task: str, clients: int, path: Path) -> Path:
    """Write each client's training samples to an .npz file that every contender reads; return its path."""
    settings = FederationSettings(task=task, clients=clients, partition="iid", local_epochs=1)
    dataset = get_task(task).dataset(settings.seed)
    arrays: dict[str, np.ndarray] = {}
    for client in range(clients):
        held = holding(settings, client, dataset)
        samples = held.samples.take(held.training_positions(np.empty(0, dtype=np.int64)))
        arrays[f"inputs-{client}"] = samples.inputs.numpy()
        arrays[f"labels-{client}"] = samples.labels.numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def small_image_folder(source: Path, target: Path, train: int, test: int) -> Path:
    """The first images of each class of a folder of class folders, so that a job takes seconds; return `target`."""
    numbers: Mapping[str, int] = {"train": train, "test": test}
    for part, number in numbers.items():
        for kind in sorted((source / part).iterdir()):
            into = target / part / kind.name
            into.mkdir(parents=True, exist_ok=True)
            for image in sorted(kind.iterdir())[:number]:
                shutil.copyfile(image, into / image.name)
    return target

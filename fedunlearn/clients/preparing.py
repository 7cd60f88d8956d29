"""What a client prepares during training for methods that need it; it stays in the client's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import nn

from fedunlearn.clients.site import Site
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import CorruptModel
from fedunlearn.files import atomic_write_bytes, told_as_sentence
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.method import Preparation, methods, training_hook

FOLDER = "prepared"
"""Folder, in a client's own, of what it prepared: a file a method."""
SAMPLES = "samples"
"""What a file says of itself: of how many samples it was prepared."""


def prepare(site: Site, model: nn.Module, samples: Samples, round: int) -> None:
    """Have each method that the federation trains for prepare what it needs of this client.

    Args:
        model: as this client has just trained it.
        samples: what it trained on.
        round: number of the round.
    """
    for name in site.prepare_for:
        compute = training_hook(methods.get(name)).prepare
        if compute is None:
            continue
        path = prepared_path(site.folder, name)
        # From what was made of other samples nothing is taken over: it may know some that have been forgotten since.
        known = read_prepared(site.folder, name) if _made_of(path) == str(len(samples)) else {}
        seed = derive_seed(site.seed, "prepare", name, round, site.client)
        arrays = compute(
            Preparation(
                task=site.task,
                model=model,
                layout=site.layout,
                classes=site.classes,
                samples=samples,
                training=site.training,
                round=round,
                prepared=known,
                generator=torch.Generator().manual_seed(seed),
            )
        )
        whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        content = safetensors.numpy.save(whole, metadata={SAMPLES: str(len(samples))})
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, content, mode=0o600)


def prepared_path(folder: Path, method: str) -> Path:
    """Where the client of this folder keeps what it prepared for a method."""
    return folder / FOLDER / f"{methods.get(method).name}.safetensors"


def prepared_files(folder: Path) -> list[Path]:
    """Files of all that the client of this folder prepared, for whichever method."""
    return sorted((folder / FOLDER).glob("[!.]*.safetensors"))


def _made_of(path: Path) -> str | None:
    """Of how many samples a file was prepared; None where there is none, or none that can be read."""
    try:
        with safetensors.safe_open(path, framework="numpy") as prepared:
            return (prepared.metadata() or {}).get(SAMPLES)
    except (SafetensorError, OSError):
        return None


def read_prepared(folder: Path, method: str) -> dict[str, np.ndarray]:
    """What a client prepared for a method; nothing where it did not.

    Raises:
        CorruptModel: the file is damaged.
    """
    path = prepared_path(folder, method)
    if not path.is_file():
        return {}
    try:
        with told_as_sentence(path, "read"):
            return dict(safetensors.numpy.load(path.read_bytes()))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptModel(
            f"{path} is damaged: delete it and train one more round, in which the client prepares for {method!r} again."
        ) from error

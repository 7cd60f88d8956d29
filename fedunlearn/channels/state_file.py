"""A model state as safetensors bytes whose name is its digest; no pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from fedunlearn.channels.packing import digest_state
from fedunlearn.errors import CorruptModel
from fedunlearn.files import atomic_write_bytes, told_as_sentence

_DIGEST = re.compile(r"[0-9a-f]{64}")


def state_path(folder: Path, digest: str) -> Path:
    """Return where the model with this digest lies in `folder`.

    Raises:
        CorruptModel: `digest` is not 64 hexadecimal digits (it comes from outside and becomes a file name).
    """
    if not _DIGEST.fullmatch(digest):
        raise CorruptModel(f"{digest!r} is not the digest of a model; expected 64 hexadecimal digits.")
    return folder / f"{digest}.safetensors"


def write_state(folder: Path, state: Mapping[str, Tensor]) -> str:
    """Store `state` in `folder`, atomically, and return its digest; the same state twice is one file.

    Raises:
        RunFolderError: no space is left, or the folder cannot be written.
    """
    digest = digest_state(state)
    # Copies: safetensors refuses tensors that share memory (tied weights), and views.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    data = safetensors.torch.save(tensors, metadata={"order": json.dumps(list(tensors))})
    path = state_path(folder, digest)
    with told_as_sentence(path, "read"):
        stored = path.is_file() and path.read_bytes() == data
    if not stored:
        atomic_write_bytes(path, data)
    return digest


def read_state(folder: Path, digest: str) -> dict[str, Tensor]:
    """Return the model with this digest, its names in the order in which they were stored.

    Raises:
        CorruptModel: the file is missing, damaged, or holds another model.
    """
    path = state_path(folder, digest)
    try:
        with told_as_sentence(path, "read"):
            data = path.read_bytes() if path.is_file() else None
        if data is None:
            raise CorruptModel(
                f"model {digest[:12]} is not in {folder}: put back a copy of {path.name}, "
                f"or start over in a new folder."
            )
        tensors = safetensors.torch.load(data)
        order = _stored_order(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(
            f"{path} is damaged or is not a safetensors file: put back a copy of it, or start over in a new folder."
        ) from error
    state = {name: tensors[name] for name in order} if sorted(order) == sorted(tensors) else tensors
    found = digest_state(state)
    if found != digest:
        raise CorruptModel(
            f"{path} holds model {found[:12]}, not {digest[:12]} as its name says: put back a copy of it, or "
            f"start over in a new folder."
        )
    return state


def _stored_order(data: bytes) -> list[str]:
    """Return the state's names in their own order; safetensors itself returns them sorted by dtype."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return list(json.loads(header.get("__metadata__", {}).get("order", "[]")))

"""What moves between server and clients: a portion of a model's tensors, packed to arrays and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedunlearn.errors import CorruptModel, SettingsError

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Portion:
    """Which part of a state dict is meant: whole tensors, or rows (indices along dimension 0) of them.

    `rows` maps a parameter or buffer name to None (the whole tensor) or to a sorted int64 tensor of distinct
    row indices. A name that is absent is not part of the portion.

    Raises SettingsError if row indices are not one-dimensional, sorted, distinct and non-negative.
    """

    rows: Mapping[str, Tensor | None]

    def __post_init__(self) -> None:
        for name, rows in self.rows.items():
            if rows is not None:
                check_indices(rows, f"the rows of {name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Portion) or self.rows.keys() != other.rows.keys():
            return False
        return all(_same_rows(rows, other.rows[name]) for name, rows in self.rows.items())

    def __hash__(self) -> int:
        return hash(frozenset(self.rows))

    @staticmethod
    def everything(state: Mapping[str, object]) -> Portion:
        """Every tensor of a state dict, whole: packing this portion is sending the dense model."""
        return Portion(dict.fromkeys(state))


def pack(state: State, portion: Portion) -> dict[str, np.ndarray]:
    """Copy a portion out of a state dict; names in state order, bfloat16 as its 16 raw bits (uint16).

    Raises SettingsError if the portion names a tensor or a row that the state does not have.
    """
    _check_portion(state, portion)
    packed = {}
    for name, tensor in state.items():
        if name in portion.rows:
            rows = portion.rows[name]
            tensor = tensor.detach()
            chosen = tensor if rows is None else tensor.index_select(0, rows.to(tensor.device))
            # A whole tensor would otherwise share its memory with the model that goes on being trained.
            packed[name] = _to_numpy(chosen).copy() if rows is None else _to_numpy(chosen)
    return packed


def unpack(base_state: State, packed: Mapping[str, np.ndarray], portion: Portion) -> dict[str, Tensor]:
    """A new state dict: the packed values on the portion, the base everywhere else; the base is not touched.

    Raises SettingsError if the portion does not fit the base, CorruptModel if names, shapes or dtypes of the
    packed arrays are not those that packing this portion of this base gives.
    """
    _check_portion(base_state, portion)
    _check_names(packed, portion)
    state = {}
    for name, base in base_state.items():
        tensor = base.detach().clone()
        state[name] = tensor
        if name not in portion.rows:
            continue
        rows = portion.rows[name]
        values = _from_numpy(name, packed[name], tensor, rows)
        if rows is None:
            tensor.copy_(values)
        else:
            tensor[rows.to(tensor.device)] = values.to(tensor.device)
    return state


def nbytes(portion: Portion, state: State) -> int:
    """Bytes of the values that packing this portion of the state sends (names and indices not counted).

    Raises SettingsError if the portion names a tensor or a row that the state does not have.
    """
    _check_portion(state, portion)
    total = 0
    for name, rows in portion.rows.items():
        tensor = state[name]
        total += _numel(tensor, rows) * tensor.element_size()
    return total


def digest_state(state: Mapping[str, Tensor | np.ndarray]) -> str:
    """SHA-256 (hexadecimal) over sorted (name, dtype, shape, little-endian bytes) of tensors or arrays.

    A tensor and its numpy array give the same digest, whatever the order of names or strides.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            dtype, array = _dtype_name(value), _to_numpy(value.detach())
        else:
            dtype, array = value.dtype.name, value
        header = json.dumps([name, dtype, list(array.shape)], ensure_ascii=True)
        digest.update(f"{len(header)}:{header}".encode())
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        # Flattening first keeps a scalar a scalar in the header and gives the hash contiguous bytes.
        digest.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_indices(indices: Tensor, what: str) -> None:
    """Refuse indices that are not a sorted, distinct, non-negative int64 vector (SettingsError)."""
    if indices.dtype != torch.int64 or indices.dim() != 1:
        raise SettingsError(f"{what} are {_dtype_name(indices)} of shape {tuple(indices.shape)}: give an int64 vector.")
    if indices.numel() and (int(indices[0]) < 0 or bool((indices[1:] <= indices[:-1]).any())):
        raise SettingsError(f"{what} are not sorted, distinct and non-negative: sort them and drop duplicates.")


def _check_portion(state: State, portion: Portion) -> None:
    for name, rows in portion.rows.items():
        if name not in state:
            raise SettingsError(f"the model has no tensor {name}: use a portion made for this network.")
        if rows is None:
            continue
        shape = tuple(state[name].shape)
        if not shape or (rows.numel() and int(rows[-1]) >= shape[0]):
            raise SettingsError(
                f"the portion asks for rows of {name} that its shape {shape} does not have:"
                " use a portion made for this network."
            )


def _check_names(packed: Mapping[str, np.ndarray], portion: Portion) -> None:
    missing = sorted(portion.rows.keys() - packed.keys())
    surplus = sorted(packed.keys() - portion.rows.keys())
    if missing or surplus:
        wrong = f"lacks {missing[0]}" if missing else f"holds {surplus[0]}, which was not asked for"
        raise CorruptModel(
            f"the packed model {wrong}: expected exactly the {len(portion.rows)} tensors of the portion."
        )


def _from_numpy(name: str, array: np.ndarray, base: Tensor, rows: Tensor | None) -> Tensor:
    shape = tuple(base.shape) if rows is None else (rows.numel(), *base.shape[1:])
    dtype = np.dtype(np.uint16) if base.dtype == torch.bfloat16 else np.dtype(_dtype_name(base))
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise CorruptModel(
            f"packed {name} is {array.dtype} {tuple(array.shape)}: expected {dtype} {shape} as in the base."
        )
    # A copy, because arrays that come from a message are read-only and torch wants memory it may write.
    values = torch.from_numpy(array.astype(dtype.newbyteorder("="), copy=True))
    return values.view(torch.bfloat16) if base.dtype == torch.bfloat16 else values


def _to_numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.cpu()
    if tensor.dtype == torch.bfloat16:
        # numpy has no bfloat16: its bits travel as they are.
        tensor = tensor.contiguous().view(torch.uint16)
    return tensor.numpy()


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _numel(tensor: Tensor, rows: Tensor | None) -> int:
    return tensor.numel() if rows is None else rows.numel() * tensor[0].numel() if len(tensor) else 0


def _same_rows(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)

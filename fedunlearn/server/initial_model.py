"""The model that a federation starts from where it is not a fresh one: a safetensors file, or torchvision's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import FederationSettings
from fedunlearn.errors import CorruptModel, SettingsError
from fedunlearn.files import atomic_write_json, read_json, told_as_sentence
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session

TORCHVISION = "torchvision:"
_RECORD = "initial-model.json"
RECORDED = "initial-model"
"""The event of a training that starts from such a model."""


@dataclass(frozen=True)
class InitialModel:
    """Weights to start from.

    Attributes:
        state: of the federation's network.
        source: where they are from, as it was asked for.
        checksum: SHA-256 of the file; "" for torchvision's, which are checked against the hash in their names.
        fresh: tensors of the output layer that are newly initialised, because there the source has other classes.
    """

    state: Mapping[str, Tensor]
    source: str
    checksum: str = ""
    fresh: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """Of the state."""
        return digest_state(self.state)

    def facts(self) -> dict[str, Any]:
        """What is recorded of it."""
        told = {name: value for name, value in asdict(self).items() if name != "state"}
        return {**told, "fresh": list(self.fresh), "digest": self.digest}

    def keep(self, folder: RunFolder) -> None:
        """Store it among the run's models, and beside them where it is from."""
        ModelStore(folder.models).save(self.state)
        atomic_write_json(folder.path / _RECORD, self.facts())


def facts_of(folder: RunFolder) -> dict[str, Any]:
    """What was recorded of the model that the run started from. Raises RunFolderError where it is damaged."""
    return dict(read_json(folder.path / _RECORD))


def with_initial_model(settings: FederationSettings) -> tuple[FederationSettings, InitialModel | None]:
    """The settings with the digest of the model that they name, and that model; None where they name none.

    Raises:
        SettingsError: there is no such file, it is no safetensors file, or it does not fit the network.
    """
    if settings.init is None:
        return settings, None
    session = Session(RunFolder(Path(), settings, ""))
    found = _fitted(settings.init, session.fresh_weights(settings.seed), session.architecture.layout.output)
    return settings.model_copy(update={"init": found.digest}), found


def _fitted(source: str, blank: Mapping[str, Tensor], output: tuple[str, ...]) -> InitialModel:
    """The source's tensors in the order and types of the network; its output layer fresh where classes differ."""
    tensors, checksum = _torchvision(source) if source.startswith(TORCHVISION) else _file(Path(source))
    lacking, surplus = sorted(blank.keys() - tensors.keys()), sorted(tensors.keys() - blank.keys())
    if lacking or surplus:
        says = [f"it lacks {lacking[0]!r}"] if lacking else []
        says += [f"it holds {surplus[0]!r}"] if surplus else []
        raise SettingsError(
            f"init = {source!r} is of another network: {' and '.join(says)}; expected exactly the {len(blank)} tensors "
            "of this one, so choose the network that it was made with."
        )
    state, fresh = {}, []
    for name, own in blank.items():
        tensor = tensors[name]
        if tensor.shape != own.shape and name in output:
            state[name] = own
            fresh.append(name)
            continue
        if tensor.shape != own.shape or tensor.is_floating_point() != own.is_floating_point():
            raise SettingsError(
                f"init = {source!r}: {name!r} is {tensor.dtype} {tuple(tensor.shape)}; expected {own.dtype} "
                f"{tuple(own.shape)}, as this task and network ask for."
            )
        state[name] = tensor.to(own.dtype)
        if not bool(torch.isfinite(state[name]).all()):
            raise SettingsError(f"init = {source!r}: {name!r} holds a number that is not finite; get a sound copy.")
    if fresh:
        # A half of an output layer fits no better than none.
        state |= {name: blank[name] for name in output}
    return InitialModel(state, source, checksum, tuple(output) if fresh else ())


def _file(path: Path) -> tuple[dict[str, Tensor], str]:
    if not path.is_file():
        raise SettingsError(
            f"init = {str(path)!r}: there is no such file; give a safetensors file, or {TORCHVISION}NAME for "
            "torchvision's weights."
        )
    try:
        with told_as_sentence(path, "read"):
            content = path.read_bytes()
        return safetensors.torch.load(content), hashlib.sha256(content).hexdigest()
    except SafetensorError as error:
        raise SettingsError(
            f"init = {str(path)!r} is damaged or no safetensors file; pickled checkpoints are not read, so save the "
            "state dict with safetensors.torch.save_file."
        ) from error


def _torchvision(source: str) -> tuple[dict[str, Tensor], str]:
    from torchvision.models import get_weight

    name = source.removeprefix(TORCHVISION)
    try:
        weights = get_weight(name)
    except (ValueError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"init = {source!r}: torchvision has no weights of that name; expected one such as "
            "ViT_B_16_Weights.IMAGENET1K_V1."
        ) from error
    try:
        # Nothing but tensors is unpickled, of a file whose hash is in its name.
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True)), ""
    except (URLError, OSError) as error:
        raise SettingsError(
            f"init = {source!r} cannot be downloaded ({error}); where there is no network, give its safetensors file."
        ) from error
    except RuntimeError as error:
        raise CorruptModel(f"init = {source!r} came damaged; try again.") from error

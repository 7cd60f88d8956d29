"""The whole models that a client keeps, so that the server need send only what changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fedunlearn.channels.state_file import read_state, state_path, write_state
from fedunlearn.errors import CorruptModel
from fedunlearn.files import make_folder, told_as_sentence

KEPT = 3
"""How many models a client keeps; the one unused for longest makes room."""


class BaseModels:
    """At most `KEPT` models in a folder of the client, named by digest and verified when read."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made if it is not there."""
        self.folder = make_folder(Path(folder))

    def has(self, digest: str) -> bool:
        """Return whether the model is kept here; `get` says whether it is whole."""
        return state_path(self.folder, digest).is_file()

    def put(self, state: Mapping[str, Tensor]) -> str:
        """Keep `state` and return its digest; beyond `KEPT` the one unused for longest is deleted.

        Raises:
            RunFolderError: no space is left, or the folder cannot be written.
        """
        digest = write_state(self.folder, state)
        self._mark_used(digest)
        with told_as_sentence(self.folder, "tidied"):
            oldest_first = sorted(self.paths(), key=lambda p: p.stat().st_mtime_ns)
            for path in oldest_first[:-KEPT]:
                path.unlink(missing_ok=True)
        return digest

    def get(self, digest: str) -> dict[str, Tensor]:
        """Return the model with this digest.

        A damaged file is deleted, so that `has` then tells the server to send the model again.

        Raises:
            CorruptModel: the model is missing, damaged, or not the one its name says.
        """
        try:
            state = read_state(self.folder, digest)
        except CorruptModel:
            state_path(self.folder, digest).unlink(missing_ok=True)
            raise
        self._mark_used(digest)
        return state

    def paths(self) -> list[Path]:
        """Return the files of all models that are kept."""
        return sorted(self.folder.glob("[0-9a-f]*.safetensors"))

    def _mark_used(self, digest: str) -> None:
        path = state_path(self.folder, digest)
        now = time.time_ns()  # given in full: the file system's own clock ticks in milliseconds
        with told_as_sentence(path, "touched"):
            os.utime(path, ns=(now, now))

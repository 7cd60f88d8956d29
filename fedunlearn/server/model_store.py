"""The server's models, each a file named by its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from fedunlearn.channels.state_file import read_state, state_path, write_state
from fedunlearn.errors import CorruptModel
from fedunlearn.files import make_folder, told_as_sentence


class ModelStore:
    """A folder of model states, `<digest>.safetensors`, written atomically and verified when read."""

    def __init__(self, folder: Path, erased: Callable[[], Mapping[str, str]] | None = None) -> None:
        """Use `folder`, which is made if it is not there.

        Args:
            erased: returns what was erased on purpose: digest -> the request with which it went.
        """
        self.folder = make_folder(Path(folder))
        self._erased = erased

    def save(self, state: Mapping[str, Tensor]) -> str:
        """Store `state` and return its digest.

        Raises:
            RunFolderError: no space is left, or the folder cannot be written.
        """
        return write_state(self.folder, state)

    def load(self, digest: str) -> dict[str, Tensor]:
        """Return the state with this digest, on the CPU.

        Raises:
            CorruptModel: the file is missing, damaged, or holds another model.
        """
        if self._erased is not None and not self.has(digest) and (request := self._erased().get(digest)):
            raise CorruptModel(
                f"model {digest[:12]} was erased with request {request}, so that nothing can be compared with it any "
                f"more; what was measured before is in the audits and certificates."
            )
        return read_state(self.folder, digest)

    def has(self, digest: str) -> bool:
        """Return whether a file of that name is there; `load` says whether it is whole."""
        return state_path(self.folder, digest).is_file()

    def path(self, digest: str) -> Path:
        """Return where the model with this digest lies, or would. Raises CorruptModel when it is no digest."""
        return state_path(self.folder, digest)

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all stored models, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("[0-9a-f]*.safetensors")))

    def remove(self, digest: str) -> None:
        """Delete a model; one that is not there is no error."""
        path = state_path(self.folder, digest)
        with told_as_sentence(path, "deleted"):
            path.unlink(missing_ok=True)

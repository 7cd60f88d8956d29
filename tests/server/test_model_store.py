from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fedunlearn.errors import CorruptModel, RunFolderError
from fedunlearn.server.model_store import ModelStore


def test_saved_model_is_loaded(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    state = {"weight": torch.rand(4, 3), "bias": torch.zeros(4)}
    digest = store.save(state)
    assert store.has(digest)
    assert store.digests() == (digest,)
    loaded = store.load(digest)
    assert list(loaded) == ["weight", "bias"]
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_foreign_model_under_a_known_name_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.save({"a": torch.ones(2)})
    save_file({"a": torch.zeros(2)}, tmp_path / f"{digest}.safetensors")
    with pytest.raises(CorruptModel, match="holds model"):
        store.load(digest)


def test_removing_twice_is_no_error(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.save({"a": torch.ones(2)})
    store.remove(digest)
    store.remove(digest)
    assert store.digests() == ()
    with pytest.raises(CorruptModel, match="is not in"):
        store.load(digest)


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(RunFolderError):
        ModelStore(tmp_path / "models")

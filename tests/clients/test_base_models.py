from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fedunlearn.clients.base_models import KEPT, BaseModels
from fedunlearn.errors import CorruptModel


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 2), value)}


def test_kept_model_is_returned(tmp_path: Path) -> None:
    models = BaseModels(tmp_path / "base")
    digest = models.put(state(1))
    assert models.has(digest)
    assert torch.equal(models.get(digest)["weight"], state(1)["weight"])
    assert not models.has("0" * 64)


def test_the_one_unused_for_longest_makes_room(tmp_path: Path) -> None:
    models = BaseModels(tmp_path)
    first, second, third = (models.put(state(value)) for value in range(KEPT))
    models.get(first)
    fourth = models.put(state(9))
    assert [models.has(digest) for digest in (first, second, third, fourth)] == [True, False, True, True]
    models.put(state(2))  # the third again: nothing more has to go
    assert len(os.listdir(tmp_path)) == KEPT


def test_damaged_model_is_forgotten_so_that_it_is_sent_again(tmp_path: Path) -> None:
    models = BaseModels(tmp_path)
    digest = models.put(state(1))
    path = tmp_path / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptModel, match="is damaged"):
        models.get(digest)
    assert not models.has(digest)
    assert models.put(state(1)) == digest
    assert torch.equal(models.get(digest)["weight"], state(1)["weight"])


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="is not in"):
        BaseModels(tmp_path).get("0" * 64)

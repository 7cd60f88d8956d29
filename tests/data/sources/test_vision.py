from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets

from fedunlearn.data.sources import sources
from fedunlearn.data.sources.vision import _samples
from fedunlearn.errors import DataError

NOWHERE = "http://127.0.0.1:9/"


def write_idx(path: Path, values: np.ndarray) -> None:
    """The format of MNIST's files: two zero bytes, type 8 (uint8), dimensions, sizes, bytes."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def test_files_put_by_hand_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [NOWHERE])
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(6 * 28 * 28).reshape(6, 28, 28) % 251
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array([3, 1, 4, 1, 5, 9]))
    data = sources.get("fashion-mnist")(0)
    assert data.train.inputs.dtype == torch.uint8
    assert np.array_equal(data.train.inputs.numpy(), pixels[:, None])
    assert data.test.labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert len(data.classes) == 10 and data.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("name", "class_name", "file"),
    [
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz"),
        ("cifar100", "CIFAR100", "cifar-100-python.tar.gz"),
        ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
        ("svhn", "SVHN", "train_32x32.mat"),
    ],
)
def test_without_a_network_the_folder_to_fill_is_named(
    name: str,
    class_name: str,
    file: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path))
    kind = getattr(datasets, class_name)
    if class_name == "FashionMNIST":
        monkeypatch.setattr(kind, "mirrors", [NOWHERE])
    elif class_name == "SVHN":
        lists = {part: [NOWHERE + "x.mat", *rest] for part, (_, *rest) in kind.split_list.items()}
        monkeypatch.setattr(kind, "split_list", lists)
    else:
        monkeypatch.setattr(kind, "url", NOWHERE + "x.tar.gz")
    with pytest.raises(DataError) as caught:
        sources.get(name)(0)
    sentence = str(caught.value)
    assert str(tmp_path) in sentence and file in sentence and "FEDUNLEARN_DATA" in sentence
    assert "\n" not in sentence
    assert capsys.readouterr().out == ""


def test_each_order_of_dimensions_becomes_channels_first() -> None:
    last = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    coloured = _samples(SimpleNamespace(data=last, targets=[1, 0]))
    assert np.array_equal(coloured.inputs.numpy(), last.transpose(0, 3, 1, 2))
    first = last.transpose(0, 3, 1, 2)
    assert np.array_equal(_samples(SimpleNamespace(data=first, labels=np.array([1, 0]))).inputs.numpy(), first)
    grey = _samples(SimpleNamespace(data=torch.from_numpy(last[..., 0]), targets=torch.tensor([1, 0])))
    assert grey.inputs.shape == (2, 1, 4, 5) and grey.labels.dtype == torch.int64

"""torchvision's data sets, downloaded when they are first used."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.sources.cache_folder import VARIABLE, cache_folder
from fedunlearn.data.sources.registered import sources
from fedunlearn.errors import DataError

SILENCE_LIMIT = 30.0
"""Seconds without a byte after which a download is given up."""


@dataclass(frozen=True)
class VisionSource:
    """One of torchvision's data sets, as a source with the data set's own split.

    Args:
        name: what it is asked for by.
        class_name: its class in `torchvision.datasets`.
        files: what must lie in the cache folder, for whoever fills it by hand.
        by_split: its two parts are asked for by `split=` and not by `train=`.
    """

    name: str
    class_name: str
    files: str
    by_split: bool = False

    def __call__(self, seed: int) -> Dataset:
        """All training and test samples, N x C x H x W uint8. The seed changes nothing.

        Raises:
            DataError: the files are neither in the cache folder nor to be had from the network.
        """
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Several processes may ask at once; the second finds what the first has downloaded.
            with _lock(folder / f".{self.name}.lock"), _polite_download():
                train, test = self._load(folder, True), self._load(folder, False)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.name} is not in {folder} and could not be downloaded ({_first_line(error)}); "
                f"put {self.files} there, or name another folder in ${VARIABLE}."
            ) from error
        classes = getattr(train, "classes", None) or [str(digit) for digit in range(10)]
        return Dataset(_samples(train), _samples(test), tuple(classes))

    def _load(self, folder: Path, training: bool) -> Any:
        from torchvision import datasets

        part = {"split": "train" if training else "test"} if self.by_split else {"train": training}
        return getattr(datasets, self.class_name)(root=str(folder), download=True, **part)


def _samples(part: Any) -> Samples:
    """torchvision keeps pixels as N x H x W x C, N x C x H x W or N x H x W."""
    pixels = torch.as_tensor(part.data)
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2)
    labels = part.targets if hasattr(part, "targets") else part.labels
    return Samples(pixels.contiguous(), torch.as_tensor(np.asarray(labels), dtype=torch.int64))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _polite_download() -> Iterator[None]:
    """torchvision reports on standard output, which belongs to results, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_LIMIT)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__


for _source in (
    VisionSource("cifar10", "CIFAR10", "cifar-10-python.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html,"),
    VisionSource("cifar100", "CIFAR100", "cifar-100-python.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html,"),
    VisionSource(
        "fashion-mnist",
        "FashionMNIST",
        "the four *-ubyte.gz files of https://github.com/zalandoresearch/fashion-mnist into FashionMNIST/raw",
    ),
    VisionSource(
        "svhn",
        "SVHN",
        "train_32x32.mat and test_32x32.mat, from http://ufldl.stanford.edu/housenumbers,",
        by_split=True,
    ),
):
    sources.register(_source.name, _source)

"""Decoded pictures on disk, so that a folder of pictures is decoded once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedunlearn.data.sources.cache_folder import cache_folder

logger = logging.getLogger("fedunlearn.data")


def cached_pixels(
    root: Path, mode: str, listing: Sequence[tuple[str, int, int]], decode: Callable[[], np.ndarray]
) -> np.ndarray:
    """What `decode` gives for the pictures under `root`, from the cache where they have not changed.

    Args:
        root: absolute folder of the pictures.
        mode: "L" or "RGB".
        listing: file, size in bytes and time of change of each picture, in order; a difference decodes anew.
        decode: gives N x C x H x W uint8.
    """
    place = _digest(str(root))
    cached = cache_folder() / "images" / f"{place}-{_digest([mode, *listing])}.npz"
    if cached.exists():
        try:
            with np.load(cached, allow_pickle=False) as arrays:
                pixels: np.ndarray = arrays["pixels"]
                if len(pixels) == len(listing):
                    return pixels
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s); decoding the pictures again.", cached, error)
    pixels = decode()
    try:
        _store(cached, pixels, place)
    except OSError as error:
        logger.warning("decoded pictures cannot be kept in %s (%s); decoding them each time.", cached, error)
    return pixels


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _store(cached: Path, pixels: np.ndarray, place: str) -> None:
    """Write whole or not at all, and drop what the same folder held before."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=cached.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, pixels=pixels)
        os.replace(name, cached)
    finally:
        Path(name).unlink(missing_ok=True)
    for older in cached.parent.glob(f"{place}-*.npz"):
        if older != cached:
            older.unlink(missing_ok=True)

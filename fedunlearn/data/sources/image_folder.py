"""`images:PATH`: folders of pictures, one a class, and optionally who owns which picture."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.sources.image_cache import cached_pixels
from fedunlearn.data.splitting import complement, stratified_positions
from fedunlearn.errors import DataError
from fedunlearn.randomness import derive_seed

PREFIX = "images:"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TEST_SHARE = 0.2
CLIENTS_FILE = "clients.csv"
_GREY = ("1", "L")


@dataclass(frozen=True)
class _Picture:
    """A file (relative to the root, with /), its label, whether it is for testing, its size and age."""

    file: str
    label: int
    test: bool
    stamp: tuple[int, int]


def load_image_folder(path: str, seed: int) -> Dataset:
    """Pictures, N x C x H x W uint8, in sorted file order.

    `PATH/train/<class>/*` and `PATH/test/<class>/*`; or only `PATH/<class>/*`, of which a class-stratified
    fifth, drawn with `seed`, is for testing. `PATH/clients.csv` (columns file, client; files relative to
    PATH) becomes the column "client". Pictures are grey where the first one is, RGB otherwise.

    Raises:
        DataError: the folder is missing, holds no pictures, or a picture is damaged, of another size, or of more than
            8 bits a pixel.
    """
    root = _root(path)
    classes, pictures = _listing(root)
    mode = image_mode(path)
    listing = [(picture.file, *picture.stamp) for picture in pictures]
    pixels = torch.from_numpy(
        cached_pixels(root, mode, listing, lambda: _decode_all(root, [p.file for p in pictures], mode))
    )
    labels = np.array([picture.label for picture in pictures], dtype=np.int64)
    test = np.flatnonzero([picture.test for picture in pictures])
    if not len(test):
        test = stratified_positions(labels, TEST_SHARE, np.random.default_rng(derive_seed("split", "images", seed)))
    train = complement(test, len(labels))
    everything = Samples(pixels, torch.from_numpy(labels))
    columns = _owners(root, [pictures[position].file for position in train])
    return Dataset(everything.take(train), everything.take(test), classes, columns)


def image_mode(path: str) -> str:
    """Pillow's word for what the first picture of the folder is: "L" for grey, "RGB" for anything else.

    Raises:
        DataError: the folder is missing or holds no pictures, or the first cannot be read or has more than 8 bits.
    """
    from PIL import Image

    root = _root(path)
    top = root / "train" if _has_own_split(root) else root
    for folder in _subfolders(top):
        for file, _ in _pictures_in(folder):
            try:
                with Image.open(folder / file) as picture:
                    _check_depth(folder / file, picture.mode)
                    return "L" if picture.mode in _GREY else "RGB"
            except (OSError, SyntaxError, ValueError) as error:
                raise DataError(f"{folder / file} cannot be read as a picture; mend or remove it.") from error
    raise DataError(f"{top} holds no folder with pictures; expected one folder a class.")


def _root(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        # A run keeps PATH as it was given, and later commands may be given elsewhere.
        where = "" if root.is_absolute() else f" in {Path.cwd()}, where the command is given"
        raise DataError(f"there is no folder {str(root)!r}{where}; PATH in images:PATH must hold one folder a class.")
    return root.resolve()


def _has_own_split(root: Path) -> bool:
    parts = [(root / part).is_dir() for part in ("train", "test")]
    if any(parts) and not all(parts):
        present, absent = ("train", "test") if parts[0] else ("test", "train")
        raise DataError(f"{root} has a folder {present!r} but no {absent!r}; give both, or only class folders.")
    return all(parts)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _pictures_in(folder: Path) -> list[tuple[str, tuple[int, int]]]:
    """Name, and size and time of last change, of each picture, sorted by name."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith("."):
                status = entry.stat()
                found.append((entry.name, (status.st_size, status.st_mtime_ns)))
    return sorted(found)


def _listing(root: Path) -> tuple[tuple[str, ...], list[_Picture]]:
    """Class names, and all pictures: those for training first, each part sorted by class and file."""
    parts = [("train/", False), ("test/", True)] if _has_own_split(root) else [("", False)]
    classes = tuple(folder.name for folder in _subfolders(root / parts[0][0]))
    pictures = []
    for prefix, test in parts:
        for folder in _subfolders(root / prefix):
            if folder.name not in classes:
                raise DataError(f"{folder} is a class that {root / 'train'} does not have; add it there.")
            found = _pictures_in(folder)
            if not found:
                raise DataError(f"{folder} holds no picture ({', '.join(sorted(SUFFIXES))}); remove or fill it.")
            label = classes.index(folder.name)
            pictures += [_Picture(f"{prefix}{folder.name}/{name}", label, test, stamp) for name, stamp in found]
    if len(classes) < 2:
        raise DataError(f"{root} holds {len(classes)} folders of pictures; expected one a class, two or more.")
    return classes, pictures


def _decode_all(root: Path, files: list[str], mode: str) -> np.ndarray:
    """All pictures, N x C x H x W uint8."""
    first = _decode(root, files[0], mode, None)
    pixels = np.empty((len(files), *first.shape), dtype=np.uint8)

    def decode_share(start: int) -> None:
        for position in range(start, min(start + 512, len(files))):
            pixels[position] = _decode(root, files[position], mode, (files[0], first.shape))

    # Reading and decoding release the interpreter lock.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode_share, range(0, len(files), 512)):
            pass
    return pixels


def _decode(root: Path, file: str, mode: str, model: tuple[str, tuple[int, ...]] | None) -> np.ndarray:
    """One picture, C x H x W; `model` is the first file and its shape, which all others must have."""
    from PIL import Image

    try:
        with Image.open(root / file) as picture:
            _check_depth(root / file, picture.mode)
            if mode == "L" and picture.mode not in _GREY:
                raise DataError(f"{root / file} is in colour and the first picture is grey; make all of them alike.")
            decoded = np.asarray(picture.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow tells damaged files in all of these.
        raise DataError(f"{root / file} cannot be read as a picture; mend or remove it.") from error
    pixels = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
    if model is not None and pixels.shape != model[1]:
        raise DataError(
            f"{root / file} is {pixels.shape[2]}x{pixels.shape[1]} pixels and {model[0]} is "
            f"{model[1][2]}x{model[1][1]}; all pictures must be of one size."
        )
    return pixels


def _check_depth(file: Path, mode: str) -> None:
    """Raise DataError for pixels of more than 8 bits: Pillow would make whatever is above 255 white."""
    if mode.startswith(("I", "F")):
        bits = "16" if "16" in mode else "32"
        raise DataError(
            f"{file} has {bits} bits a pixel; expected 8: convert the pictures first, since only you know which range "
            f"of their values is to become 0 to 255."
        )


def _owners(root: Path, files: list[str]) -> dict[str, np.ndarray]:
    """The column "client" for `files`, or no column where there is no clients.csv."""
    table = root / CLIENTS_FILE
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not {"file", "client"} <= set(reader.fieldnames or ()):
            raise DataError(f"{table} must begin with a line that names the columns file and client.")
        owner = {row["file"]: row["client"] for row in reader}
    orphans = [file for file in files if not owner.get(file)]
    if orphans:
        raise DataError(f"{table} names no client for {orphans[0]!r}; every training picture needs one.")
    return {"client": np.array([owner[file] for file in files])}

"""Lay out a part of CIFAR-10 as folders of images: the first N training and M test images of each class.

    python experiments/prepare_cifar10.py ARCHIVE_OR_FOLDER DESTINATION [--train 800] [--test 100]

The source holds `train/<class>/*.jpg` and `test/<class>/*.jpg`, as a folder or as a tar archive of one. The
destination then serves as a task: `fedunlearn simulate --task images:DESTINATION`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SPLITS = ("train", "test")
SUFFIXES = (".jpg", ".jpeg", ".png")


class SourceError(Exception):
    """What is wrong with the source or the destination, in one sentence."""


@dataclass(frozen=True)
class Image:
    """One image of the source: where it belongs, and its name there."""

    split: str
    label: str
    file: str
    member: str


def prepare(source: Path, destination: Path, train: int = 800, test: int = 100) -> dict[str, int]:
    """Copy the first images of each class, in sorted order of their names; return how many, by split.

    Args:
        source: a folder, or a tar archive (compressed or not).
        destination: a folder that is new or empty.
        train: training images of each class. test: test images of each class.

    Raises:
        SourceError: the source is missing or damaged, names a file outside of itself, or has too few images;
            the destination is in use.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise SourceError(f"{destination} is there already and not empty: name a new folder.")
    wanted = {"train": train, "test": test}
    if source.is_dir():
        names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
        for image in choose(names, wanted, source):
            target = _place(destination, image)
            shutil.copyfile(source / image.member, target)
        return _count(destination)
    try:
        with tarfile.open(source) as archive:
            # Only regular files, and each is written to a path made here: links and odd modes stay behind.
            members = {member.name: member for member in archive if member.isfile()}
            for image in choose(members, wanted, source):
                content = archive.extractfile(members[image.member])
                assert content is not None
                with content, _place(destination, image).open("wb") as target:
                    shutil.copyfileobj(content, target)
    except FileNotFoundError as error:
        raise SourceError(f"there is no archive or folder {source}.") from error
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(f"{source} is not a whole tar archive ({error}): fetch it once more.") from error
    return _count(destination)


def choose(names: Iterable[str], wanted: dict[str, int], source: Path) -> list[Image]:
    """The first images of each class and split, by name.

    Raises:
        SourceError: a name leads outside of the source, or there are fewer images than wanted.
    """
    found: dict[tuple[str, str], list[Image]] = {}
    for name in sorted(names):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise SourceError(f"{source} names the file {name!r}, outside of itself: do not trust this archive.")
        if len(place.parts) == 3 and place.parts[0] in SPLITS and place.suffix.lower() in SUFFIXES:
            split, label, file = place.parts
            found.setdefault((split, label), []).append(Image(split, label, file, name))
    if not found:
        raise SourceError(f"{source} holds no train/<class>/*.jpg and test/<class>/*.jpg.")
    labels = sorted({label for _, label in found})
    chosen = []
    for split in SPLITS:
        for label in labels:
            images = found.get((split, label), [])
            if len(images) < wanted[split]:
                raise SourceError(
                    f"{source} has {len(images)} images in {split}/{label}, {wanted[split]} are wanted: ask for fewer."
                )
            chosen += images[: wanted[split]]
    return chosen


def _place(destination: Path, image: Image) -> Path:
    folder = destination / image.split / image.label
    folder.mkdir(parents=True, exist_ok=True)
    return folder / image.file


def _count(destination: Path) -> dict[str, int]:
    return {split: sum(1 for path in (destination / split).glob("*/*")) for split in SPLITS}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, do it, say what was done; exit status 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(description="Lay out a part of CIFAR-10 as folders of images.")
    parser.add_argument("source", type=Path, help="folder or tar archive with train/<class>/* and test/<class>/*")
    parser.add_argument("destination", type=Path, help="new folder")
    parser.add_argument("--train", type=_count_argument, default=800, help="training images a class (%(default)s)")
    parser.add_argument("--test", type=_count_argument, default=100, help="test images a class (%(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        counts = prepare(chosen.source, chosen.destination, chosen.train, chosen.test)
    except (SourceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{chosen.destination}: {counts['train']} training and {counts['test']} test images")
    return 0


def _count_argument(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

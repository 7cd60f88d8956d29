"""Laying out CIFAR-10: which images come along, and what a bad archive is answered."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "prepare_cifar10.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("prepare_cifar10", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["prepare_cifar10"] = module
    specification.loader.exec_module(module)
    return module


def names(per_split: dict[str, int]) -> list[str]:
    return [
        f"{split}/{label}/{number:04d}.jpg"
        for split, count in per_split.items()
        for label in ("cat", "ship")
        for number in reversed(range(count))  # an archive need not be sorted
    ]


def tar(path: Path, files: list[str], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in files:
            data = f"image {name}".encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path


def files_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.jpg"))}


EXPECTED = {
    f"{split}/{label}/{number:04d}.jpg": f"image {split}/{label}/{number:04d}.jpg"
    for split, count in {"train": 3, "test": 2}.items()
    for label in ("cat", "ship")
    for number in range(count)
}


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_first_images_of_each_class_come_out_of_an_archive(script: ModuleType, tmp_path: Path, prefix: str) -> None:
    archive = tar(tmp_path / "a.tar.gz", [prefix + name for name in names({"train": 5, "test": 4})])
    if prefix:  # the content tells where it came from; here only the places count
        script.prepare(archive, tmp_path / "out", train=3, test=2)
        assert list(files_of(tmp_path / "out")) == sorted(EXPECTED)
        return
    assert script.prepare(archive, tmp_path / "out", train=3, test=2) == {"train": 6, "test": 4}
    assert files_of(tmp_path / "out") == EXPECTED


def test_a_folder_gives_the_same_as_an_archive_of_it(script: ModuleType, tmp_path: Path) -> None:
    for name in names({"train": 5, "test": 4}):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"image {name}")
    script.prepare(tmp_path / "source", tmp_path / "out", train=3, test=2)
    assert files_of(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize("evil", ["../evil.jpg", "/evil.jpg", "train/cat/../../../evil.jpg"])
def test_a_name_that_leads_outside_is_refused_before_anything_is_written(
    script: ModuleType, tmp_path: Path, evil: str
) -> None:
    archive = tar(tmp_path / "a.tar.gz", [*names({"train": 3, "test": 3}), evil])
    with pytest.raises(script.SourceError, match="outside of itself"):
        script.prepare(archive, tmp_path / "deep" / "out", train=3, test=2)
    assert not (tmp_path / "deep").exists()
    assert not list(tmp_path.rglob("evil*"))


def test_links_stay_behind(script: ModuleType, tmp_path: Path) -> None:
    links = {"train/cat/0000a.jpg": "/etc/passwd"}
    archive = tar(tmp_path / "a.tar.gz", names({"train": 3, "test": 2}), links)
    script.prepare(archive, tmp_path / "out", train=3, test=2)
    assert files_of(tmp_path / "out") == EXPECTED


def test_too_few_images_are_named_with_their_class(script: ModuleType, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [*names({"train": 3, "test": 2}), "train/dog/0000.jpg"])
    with pytest.raises(script.SourceError, match="1 images in train/dog, 3 are wanted"):
        script.prepare(archive, tmp_path / "out", train=3, test=2)


def test_a_destination_in_use_is_left_alone(script: ModuleType, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", names({"train": 3, "test": 2}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(script.SourceError, match="name a new folder"):
        script.prepare(archive, tmp_path / "out", train=3, test=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_command_line_says_what_it_did_or_why_not(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tar(tmp_path / "a.tar.gz", names({"train": 3, "test": 2}))
    out = str(tmp_path / "out")
    assert script.main([str(archive), out, "--train", "3", "--test", "2"]) == 0
    assert "6 training and 4 test images" in capsys.readouterr().out
    assert script.main([str(tmp_path / "nothing.tar.gz"), str(tmp_path / "other")]) == 1
    assert "there is no archive or folder" in capsys.readouterr().err
    (tmp_path / "half.tar.gz").write_bytes(archive.read_bytes()[:100])
    assert script.main([str(tmp_path / "half.tar.gz"), str(tmp_path / "other")]) == 1
    assert "not a whole tar archive" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        script.main([str(archive), out, "--train", "0"])
    assert stopped.value.code == 2

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedunlearn.data.partition import partition_indices
from fedunlearn.data.sources.image_folder import image_mode, load_image_folder
from fedunlearn.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path / "cache"))


def picture(path: Path, value: int, mode: str = "RGB", size: tuple[int, int] = (9, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value + 1, value + 2)).save(path)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Two classes with a split of their own; the colour tells the file."""
    root = tmp_path / "pictures"
    for part, start in (("train", 0), ("test", 100)):
        for label, name in enumerate(("cat", "ant")):
            for number in range(4):
                picture(root / part / name / f"{number}.png", start + label * 40 + number)
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    root = tmp_path / "flat"
    for label, name in enumerate(("b", "a")):
        for number in range(10):
            picture(root / name / f"{number}.png", label * 40 + number, "L")
    return root


def test_a_split_folder(split: Path) -> None:
    data = load_image_folder(str(split), 0)
    assert data.classes == ("ant", "cat")
    assert data.train.inputs.shape == (8, 3, 8, 9) and data.train.inputs.dtype == torch.uint8
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    assert data.train.inputs[:, 0, 0, 0].tolist() == [40, 41, 42, 43, 0, 1, 2, 3]
    assert data.train.inputs[0, :, 5, 5].tolist() == [40, 41, 42]
    assert data.test.inputs[:, 0, 0, 0].tolist() == [140, 141, 142, 143, 100, 101, 102, 103]


def test_class_folders_alone_are_split_with_the_seed(flat: Path) -> None:
    assert image_mode(str(flat)) == "L"
    splits = [load_image_folder(str(flat), seed) for seed in (0, 0, 1)]
    shades = [data.test.inputs[:, 0, 0, 0].tolist() for data in splits]
    assert shades[0] == shades[1] != shades[2]
    data = splits[0]
    assert data.train.inputs.shape == (16, 1, 8, 9)
    assert torch.bincount(data.test.labels).tolist() == [2, 2]
    everything = [*data.train.inputs[:, 0, 0, 0].tolist(), *shades[0]]
    assert sorted(everything) == [*range(10), *range(40, 50)]


def test_who_owns_which_picture(flat: Path) -> None:
    rows = [f"{name}/{number}.png,{'xyz'[number % 3]}" for name in "ab" for number in range(10)]
    (flat / "clients.csv").write_text("file,client\n" + "\n".join(rows))
    data = load_image_folder(str(flat), 0)
    numbers = data.train.inputs[:, 0, 0, 0].numpy() % 40
    assert data.columns["client"].tolist() == ["xyz"[number % 3] for number in numbers]
    shares = partition_indices(data.columns, "by:client", 3, 0)
    assert [set(numbers[share] % 3) for share in shares] == [{0}, {1}, {2}]


def test_decoded_pictures_are_cached_until_one_changes(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_image_folder(str(split), 0)
    (cached,) = (tmp_path / "cache" / "images").glob("*.npz")
    with monkeypatch.context() as patch:
        patch.setattr("fedunlearn.data.sources.image_folder._decode_all", None)
        again = load_image_folder(str(split), 0)
    assert torch.equal(first.train.inputs, again.train.inputs)
    picture(split / "train" / "ant" / "0.png", 222)
    changed = load_image_folder(str(split), 0)
    assert changed.train.inputs[0, 0, 0, 0] == 222
    assert not cached.exists(), "what the folder held before is dropped"


def test_other_files_are_passed_over(split: Path) -> None:
    (split / "train" / "ant" / "notes.txt").write_text("no picture")
    (split / "train" / ".hidden").mkdir()
    assert len(load_image_folder(str(split), 0).train) == 8


def replace(file: str, value: int = 1, mode: str = "RGB", size: tuple[int, int] = (9, 8)) -> Callable[[Path], None]:
    return lambda root: picture(root / file, value, mode, size)


def deepen(file: str, kind: type[np.generic]) -> Callable[[Path], None]:
    """Values up to 4095, as a scanner of 12 bits writes them: Pillow makes all above 255 white without a word."""
    return lambda root: Image.fromarray(np.linspace(0, 4095, 72).reshape(8, 9).astype(kind)).save(root / file)


def damage(root: Path) -> None:
    file = root / "train" / "cat" / "2.png"
    file.write_bytes(file.read_bytes()[:45])


def remove_test(root: Path) -> None:
    (root / "test").rename(root.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            replace("train/cat/2.png", size=(8, 9)),
            r"train/cat/2.png is 8x9 pixels and train/ant/0.png is 9x8",
        ),
        (damage, r"train/cat/2.png cannot be read as a picture"),
        (replace("test/dog/0.png"), r"test/dog is a class that .*train does not have"),
        (remove_test, r"has a folder 'train' but no 'test'"),
        (lambda root: (root / "train" / "empty").mkdir(), r"train/empty holds no picture"),
        (replace("train/ant/0.png", mode="L"), r"is in colour and the first picture is grey"),
        (deepen("train/ant/0.png", np.uint16), r"train/ant/0.png has 16 bits a pixel; expected 8"),
        (deepen("test/cat/4.tif", np.int32), r"test/cat/4.tif has 32 bits a pixel; expected 8"),
        (lambda root: (root / "clients.csv").write_text("a,b\n"), r"the columns file and client"),
        (lambda root: (root / "clients.csv").write_text("file,client\n"), r"no client for 'train/ant/0.png'"),
    ],
)
def test_unusable_folders_get_a_sentence(split: Path, change: Callable[[Path], None], sentence: str) -> None:
    change(split)
    with pytest.raises(DataError, match=sentence):
        load_image_folder(str(split), 0)


def test_folders_that_hold_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder '/.*/absent'; PATH"):
        load_image_folder(str(tmp_path / "absent"), 0)
    with pytest.raises(DataError, match=rf"there is no folder 'absent' in {Path.cwd()}, where the command is given"):
        load_image_folder("absent", 0)
    with pytest.raises(DataError, match="no folder with pictures"):
        image_mode(str(tmp_path))
    picture(tmp_path / "only" / "one" / "0.png", 1)
    with pytest.raises(DataError, match="1 folders of pictures"):
        load_image_folder(str(tmp_path / "only"), 0)


def test_many_pictures_decode_in_order(tmp_path: Path) -> None:
    for number in range(1100):
        picture(tmp_path / "many" / "ab"[number % 2] / f"{number:04}.png", number % 250, "L", (2, 2))
    data = load_image_folder(str(tmp_path / "many"), 0)
    expected = np.array([number % 250 for parity in (0, 1) for number in range(parity, 1100, 2)])
    shades = torch.cat([data.train.inputs, data.test.inputs])[:, 0, 0, 0].numpy()
    assert sorted(shades) == sorted(expected)
    assert (data.train.inputs[:, 0, 0, 0] % 2 == data.train.labels).all()

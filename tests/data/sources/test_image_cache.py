from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedunlearn.data.sources.image_cache import cached_pixels

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
LISTING = [("a/0.png", 10, 5), ("b/0.png", 11, 6)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path))
    return tmp_path / "images"


def test_a_damaged_file_is_decoded_anew(folder: Path) -> None:
    cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS)
    (cached,) = folder.iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    assert np.array_equal(cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS), PIXELS)
    assert np.array_equal(cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS + 1), PIXELS)


@pytest.mark.parametrize("listing", [[("a/0.png", 10, 5)], [("a/0.png", 10, 5), ("b/0.png", 11, 7)]])
def test_another_listing_is_decoded_anew(listing: list[tuple[str, int, int]]) -> None:
    cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS)
    other = PIXELS[: len(listing)] + 1
    assert np.array_equal(cached_pixels(Path("/pictures"), "RGB", listing, lambda: other), other)


def test_folders_and_modes_do_not_mix(folder: Path) -> None:
    cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS)
    assert np.array_equal(cached_pixels(Path("/others"), "RGB", LISTING, lambda: PIXELS + 1), PIXELS + 1)
    assert len(list(folder.iterdir())) == 2
    assert np.array_equal(cached_pixels(Path("/others"), "L", LISTING, lambda: PIXELS + 2), PIXELS + 2)
    assert len(list(folder.iterdir())) == 2


def test_no_place_to_keep_them_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path / "file"))
    assert np.array_equal(cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS), PIXELS)


def test_a_failed_write_leaves_no_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert np.array_equal(cached_pixels(Path("/pictures"), "RGB", LISTING, lambda: PIXELS), PIXELS)
    assert list(folder.iterdir()) == []

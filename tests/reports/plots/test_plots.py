from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from fedunlearn.reports.plots import draw


def test_every_picture_has_real_content(report: tuple[Path, ...]) -> None:
    pictures = [path for path in report if path.suffix == ".png"]
    assert [path.stem for path in pictures] == ["forgetting", "distance", "accuracy", "attribution", "cost"]
    for path in pictures:
        assert path.stat().st_size < 120_000
        with Image.open(path) as image:
            assert image.width == 1350
            assert len(image.convert("RGB").getcolors(100_000) or []) > 10


def test_pictures_say_how_to_read_them_and_are_the_same_bytes_again(comparison: dict[str, Any]) -> None:
    part = {"models": comparison["models"]}
    pictures = draw(part)
    assert [picture.data for picture in pictures] == [picture.data for picture in draw(part)]
    for picture in pictures:
        assert picture.title.endswith("?") and picture.caption.endswith(".")


def test_nothing_to_draw_draws_nothing() -> None:
    assert draw({}) == []
    assert draw({"models": {"original": {"test_accuracy": 0.9}}, "rounds": {}, "attribution": {}}) == []

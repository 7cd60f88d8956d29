from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.data.sources.cache_folder import cache_folder


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDUNLEARN_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "~/.cache/fedunlearn/data"):
        monkeypatch.setenv("FEDUNLEARN_DATA", value)
        assert cache_folder() == tmp_path / ".cache" / "fedunlearn" / "data"

"""The demonstration, on a smaller federation than the one that users see."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.demo import SETTINGS, demo
from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.progress import Progress

SMALL = {"task": "digits", "clients": 3, "rounds": 1, "local_epochs": 1}


@pytest.mark.slow
def test_it_goes_the_whole_path_and_can_be_shown_once_more(tmp_path: Path) -> None:
    told = list[Progress]()
    first = demo(tmp_path / "run", told.append, **SMALL)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    models = first.document["models"]
    assert list(models) == ["original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"]
    assert first.document["run"]["backdoor"] == SETTINGS["backdoor"]
    assert first.document["request"]["clients"] == [0]
    assert "train" in {one.phase for one in told}

    (tmp_path / "run" / "report.html").unlink()
    again = demo(tmp_path / "run", **SMALL)
    assert again.document["models"] == models
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(RunFolderError, match="other settings"):
        demo(tmp_path / "run", **{**SMALL, "clients": 4})


def test_a_wrong_setting_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="clients = 1"):
        demo(tmp_path / "run", clients=1)
    assert not (tmp_path / "run").exists()

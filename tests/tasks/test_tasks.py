from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fedunlearn.errors import DataError, SettingsError, UnknownName
from fedunlearn.models import networks
from fedunlearn.tasks import get_task, tasks
from fedunlearn.tasks.base import LogitsTask, Task


@pytest.mark.parametrize("name", ["mnist5k", "digits", "cifar10", "cifar100", "fashion-mnist", "svhn"])
def test_registered_tasks_keep_the_protocol(name: str) -> None:
    task = get_task(name)
    assert isinstance(task, Task) and isinstance(task, LogitsTask)
    assert task.name == name and name in tasks.names()
    assert set(task.networks) <= set(networks.names())
    assert task.default_network in task.networks


def test_grey_data_defaults_to_lenet_and_colour_to_group_norm() -> None:
    assert get_task("mnist5k").default_network == "lenet"
    assert get_task("cifar10").default_network == "groupnorm-cnn"


@pytest.mark.parametrize(("mode", "network"), [("L", "lenet"), ("RGB", "groupnorm-cnn")])
def test_a_folder_of_pictures_is_a_task(mode: str, network: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new(mode, (8, 8)).save(tmp_path / "a" / "0.png")
    task = get_task(f"images:{tmp_path}")
    assert task.name == f"images:{tmp_path}"
    assert task.default_network == network


def test_a_missing_folder_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        get_task(f"images:{tmp_path / 'absent'}")


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_own_tasks.py").write_text(
        "from fedunlearn.tasks import ClassificationTask\n"
        "from fedunlearn.tasks import ImageToImage\n"
        "from fedunlearn.tasks.degradations import CentreHidden\n"
        "TASK = ClassificationTask('mine', 'digits')\n"
        "IMAGES = ImageToImage('my-images', 'digits', CentreHidden(0.5))\n"
        "NUMBER = 3\n"
        "KIND = ClassificationTask\n"
    )
    (tmp_path / "my_broken_tasks.py").write_text("import absent_package_of_nobody\n")
    (tmp_path / "my_unreadable_tasks.py").write_text("def (\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_own_tasks"


def test_ones_own_task_by_module_and_object(my_module: str) -> None:
    assert get_task(f"{my_module}:TASK").name == "mine"
    assert get_task(f"{my_module}:IMAGES").name == "my-images", "not every task answers with classes"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my_own_tasks:OTHER", "module 'my_own_tasks' has no 'OTHER'"),
        ("my_own_tasks:NUMBER", "lacks name, networks"),
        ("my_own_tasks:KIND", "is a class; give an instance"),
        ("my_own_tasks:", "not of the form module:object"),
        (":TASK", "not of the form module:object"),
        ("my_absent_tasks:TASK", "there is no module 'my_absent_tasks'"),
        (
            "inpaintng=0.3:digits",
            r"no kind of image-to-image task of that name \(known: .*inpainting.*correct the kind",
        ),
        ("my_unreadable_tasks:TASK", "importing 'my_unreadable_tasks' failed"),
        ("my_broken_tasks:TASK", "there is no module 'absent_package_of_nobody'"),
    ],
)
def test_what_is_no_task_gets_a_sentence(my_module: str, name: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        get_task(name)


def test_an_unknown_name_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mnist5k'"):
        get_task("mnist-5k")

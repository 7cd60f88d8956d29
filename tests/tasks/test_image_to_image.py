from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedunlearn.data.planting import Backdoor
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.tasks import get_task, tasks
from fedunlearn.tasks.base import ImageToImageTask, LogitsTask, Task, loss_of_guessing, with_classes
from fedunlearn.tasks.degradations import CentreHidden, degradations
from fedunlearn.tasks.encoding import EncodingTask, TargetedTask
from fedunlearn.tasks.image_to_image import NETWORKS, ImageToImage
from fedunlearn.tasks.training import TrainingSettings, evaluate, train_locally


@pytest.fixture(scope="module")
def task() -> ImageToImage:
    found = get_task("completion:digits")
    assert isinstance(found, ImageToImage)
    return found


@pytest.fixture(scope="module")
def model(task: ImageToImage) -> torch.nn.Module:
    return task.build(None, 0, task.dataset(0)).eval()


@pytest.mark.parametrize("kind", [name for name in degradations.names() if not degradations.get(name).colour])
def test_every_kind_is_a_task_on_every_source_of_images(kind: str) -> None:
    task = get_task(f"{kind}:digits")
    assert isinstance(task, Task) and isinstance(task, ImageToImageTask) and not isinstance(task, LogitsTask)
    assert isinstance(task, TargetedTask) and isinstance(task, EncodingTask)
    assert task.name == f"{kind}:digits" and task.networks == NETWORKS
    dataset = task.dataset(0)
    assert torch.equal(dataset.train.inputs, get_task("digits").dataset(0).train.inputs)
    assert task.dataset(0) is dataset, "sharing out knows a data set by identity"
    images = task.inputs(dataset.test.inputs[:3])
    assert task.degrade(images).shape == (3, 2, 8, 8)
    assert torch.equal(task.degrade(images)[:, -1:], task.region(images))


@pytest.fixture
def colours(tmp_path: Path) -> str:
    """Two classes of six colour pictures each."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = generator.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return str(tmp_path)


def test_a_folder_of_pictures_is_a_source(colours: str) -> None:
    task = get_task(f"inpainting=0.25:images:{colours}")
    assert isinstance(task, ImageToImage) and task.degradation == CentreHidden(0.25)
    dataset = task.dataset(0)
    assert task.region(task.inputs(dataset.test.inputs)).sum() == 4 * len(dataset.test)


def test_colour_is_added_to_colour_pictures_and_refused_for_grey_ones(colours: str) -> None:
    task = get_task(f"colourisation:images:{colours}")
    images = task.inputs(task.dataset(0).test.inputs)
    assert isinstance(task, ImageToImageTask)
    grey = task.degrade(images)[:, :3]
    assert torch.equal(grey[:, 0], grey[:, 2])
    with pytest.raises(SettingsError, match="adds colours, and the images of 'digits' are grey"):
        get_task("colourisation:digits").dataset(0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inpainting", "names no source of images; write inpainting:mnist5k"),
        ("inpainting=0.5", "names no source of images"),
        ("inpainting=half:digits", "'half' is not a number; write inpainting=0.5:digits"),
        ("inpainting=1.5:digits", "inpainting=1.5 is out of range"),
    ],
)
def test_a_name_that_is_none_is_told(name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        get_task(name)


def test_an_unknown_source_is_told() -> None:
    with pytest.raises(UnknownName, match="no data source called 'digts'"):
        get_task("inpainting:digts").dataset(0)


def test_tables_are_no_images() -> None:
    with pytest.raises(SettingsError, match="completes images, and the inputs of 'breast-cancer'"):
        get_task("denoising:breast-cancer").dataset(0)


def test_networks_and_tasks_that_do_not_fit_are_told(task: ImageToImage) -> None:
    with pytest.raises(SettingsError, match="'lenet' does not complete images"):
        task.build("lenet", 0, task.dataset(0))
    with pytest.raises(SettingsError, match="has no network 'absent'"):
        task.build("absent", 0, task.dataset(0))
    digits = tasks.get("digits")
    with pytest.raises(SettingsError, match="'auto-encoder' completes images and names no classes"):
        digits.build("auto-encoder", 0, digits.dataset(0))


def test_equal_seeds_give_equal_networks_and_global_random_state_is_untouched(task: ImageToImage) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, same, other = (task.build(None, seed, task.dataset(0)).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["output.weight"], other["output.weight"])


def test_known_pixels_stay_and_the_loss_is_the_squared_error_of_the_others(
    task: ImageToImage, model: torch.nn.Module
) -> None:
    samples = task.dataset(0).test.take(range(30))
    images = task.inputs(samples.inputs)
    with torch.no_grad():
        made, region = task.reconstruct(model, images), task.region(images)
        losses = task.loss(model, images, samples.labels)
    known = region.expand_as(images) == 0
    assert torch.equal(made[known], images[known]) and bool(((made >= 0) & (made <= 1)).all())
    by_hand = [float((made[i] - images[i])[region[i] == 1].square().mean()) for i in range(30)]
    assert torch.allclose(losses, torch.tensor(by_hand), atol=1e-6)


def test_the_labels_say_nothing_to_the_model(task: ImageToImage, model: torch.nn.Module) -> None:
    images = task.inputs(task.dataset(0).test.inputs[:5])
    with torch.no_grad():
        assert torch.equal(*(task.loss(model, images, torch.full((5,), label)) for label in (0, 7)))


def test_evaluations_are_equal_and_trainings_with_equal_seeds(task: ImageToImage) -> None:
    samples = task.dataset(0).train.take(range(64))
    states, losses = [], []
    for _ in range(2):
        model = task.build(None, 0, task.dataset(0))
        generator = torch.Generator().manual_seed(3)
        train_locally(task, model, samples, TrainingSettings(1, 0.05), generator)
        states.append(model.state_dict())
        losses.append(evaluate(task, model, samples).losses)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(*losses)
    model.train()
    images = task.inputs(samples.inputs)
    assert not torch.equal(*(task.loss(model, images, samples.labels) for _ in range(2))), "training degrades anew"


def test_the_loss_to_other_images_is_the_loss_where_they_are_its_own(
    task: ImageToImage, model: torch.nn.Module
) -> None:
    images = task.inputs(task.dataset(0).test.inputs[:6])
    with torch.no_grad():
        assert torch.equal(task.loss_to(model, images, images), task.loss(model, images, torch.zeros(6)))
        target = torch.rand(6, 1, 8, 8)
        made, region = model(task.degrade(images)), task.region(images)
        by_hand = [float((made[i] - target[i])[region[i] == 1].square().mean()) for i in range(6)]
        assert torch.allclose(task.loss_to(model, images, target), torch.tensor(by_hand), atol=1e-6)


def test_an_evaluation_has_losses_and_no_classes(task: ImageToImage, model: torch.nn.Module) -> None:
    found = evaluate(task, model, task.dataset(0).test.take(range(70)))
    assert found.losses.shape == (70,) and found.scores is None
    for ask in (lambda: found.logits, lambda: found.predictions):
        with pytest.raises(SettingsError, match="answers with no classes"):
            ask()
    with pytest.raises(SettingsError, match="'completion:digits' answers with none"):
        with_classes(task)
    with pytest.raises(SettingsError, match="'completion:digits' answers with none"):
        loss_of_guessing(task, 10)


def test_a_backdoor_needs_a_part_that_is_always_hidden(task: ImageToImage) -> None:
    dataset = task.dataset(0)
    assert dataset.painted is not None
    with pytest.raises(SettingsError, match="hides no part that is the same in every image"):
        dataset.painted(dataset.train.inputs[:2], Backdoor(client=0, share=0.5))

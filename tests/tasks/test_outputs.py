from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.models.image_to_image import ImageToImageNetwork
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.image_to_image import ImageToImage
from fedunlearn.tasks.outputs import answers, displacements, errors


def upper_row(images: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    region = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).expand(len(images), 1, 2, 2)
    return images * (1 - region), region


PAINTED = ImageToImage("painted", "mnist5k", upper_row)


class Grey(ImageToImageNetwork):
    """Every pixel is one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def complete(self, degraded: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.value.expand(len(degraded), 1, 2, 2)


def test_errors_of_images_are_root_mean_squares_over_the_region() -> None:
    images = torch.tensor([[[[0.1, 0.5], [0.9, 0.9]]], [[[0.5, 0.5], [0.0, 0.0]]]])
    found = errors(PAINTED, Grey(0.5), Samples(images, torch.zeros(2, dtype=torch.int64)))
    assert found.tolist() == pytest.approx([math.sqrt((0.4**2 + 0) / 2), 0.0])


def test_displacement_is_the_distance_from_the_earlier_answer_in_every_batch() -> None:
    samples = Samples(torch.rand(150, 1, 2, 2), torch.zeros(150, dtype=torch.int64))
    before = answers(PAINTED, Grey(0.25), samples)
    assert before.shape == (150, 1, 2, 2)
    assert torch.allclose(displacements(PAINTED, Grey(0.75), samples, before), torch.full((150,), 0.5))


def test_a_classifier_is_measured_by_its_probabilities() -> None:
    task, model = ClassificationTask("tiny", "digits"), nn.Linear(3, 2)
    samples = Samples(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1]))
    right = model(samples.inputs).softmax(1)[torch.arange(5), samples.labels]
    # Of two classes both differ by the same: the root mean square is 1 - p.
    assert torch.allclose(errors(task, model, samples), 1 - right, atol=1e-6)
    other = nn.Linear(3, 2)
    apart = displacements(task, other, samples, answers(task, model, samples))
    expected = (other(samples.inputs).softmax(1) - model(samples.inputs).softmax(1)).square().mean(1).sqrt()
    assert torch.allclose(apart, expected, atol=1e-6)


def test_a_task_without_answers_is_refused_in_a_sentence() -> None:
    class Silent:
        name = "silent"

        def inputs(self, raw):
            return raw

    with pytest.raises(SettingsError, match="answers neither with images nor with scores"):
        errors(Silent(), nn.Linear(1, 1), Samples(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)))  # type: ignore[arg-type]

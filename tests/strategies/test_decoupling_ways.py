from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from fedunlearn.data.dataset import Samples
from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of, squared_error
from fedunlearn.strategies.decoupling import Ascent, decouple
from fedunlearn.strategies.decoupling_ways import Error, Loss, OtherWay, ways
from fedunlearn.tasks import get_task
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.outputs import answers, displacements

TASK = get_task("inpainting=0.5:digits")
BATCH = torch.arange(12)


class Grey(ImageToImageNetwork):
    """Paints one grey, the same everywhere; its loss has a term besides, which paints nothing and has no end."""

    def __init__(self, grey: float) -> None:
        super().__init__()
        self.grey = torch.nn.Parameter(torch.tensor(grey).logit())
        self.nothing = torch.nn.Parameter(torch.ones(()))

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.grey.sigmoid().expand_as(degraded[:, :-1])

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        return squared_error(self.complete(degraded), images, region_of(degraded)) + self.nothing.square()


def white(count: int = 12) -> Samples:
    return Samples(torch.ones(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64))


def test_the_error_is_that_of_the_answers_and_not_the_loss() -> None:
    assert isinstance(TASK, ImageToImageTask)
    model = Grey(0.25)
    assert Error(TASK, model, white())(BATCH, True).item() == pytest.approx(0.75**2)
    assert Loss(TASK, model, white())(BATCH, True).item() == pytest.approx(0.75**2 + 1)
    first, second = ways(TASK, model, white(), answers(TASK, model, white()), 0.5)
    assert isinstance(first, Error) and isinstance(second, OtherWay)


def test_an_auto_encoders_error_is_its_loss_to_the_bit() -> None:
    assert isinstance(TASK, ImageToImageTask)
    dataset = TASK.dataset(0)
    model = TASK.build("auto-encoder-small", 0, dataset).eval()
    some, gradients = dataset.train.take(BATCH), []
    for way in (Error(TASK, model, some), Loss(TASK, model, some)):
        gradients.append(torch.autograd.grad(way(BATCH, True), list(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_other_way_lowers_the_error_once_and_then_leaves_the_answers_of_before() -> None:
    assert isinstance(TASK, ImageToImageTask)
    model, some = Grey(0.25), white()
    way = OtherWay(Error(TASK, model, some), answers(TASK, model, some), threshold=0.3)
    assert way(BATCH, True).item() == pytest.approx(-(0.75**2))
    for grey, squares in ((0.25, 0.0), (0.5, 0.25**2), (0.6, 0.0)):
        # At 0.6 they are displaced by more than the threshold, and count no more.
        with torch.no_grad():
            model.grey.fill_(torch.tensor(grey).logit())
        assert way(BATCH, False).item() == pytest.approx(squares, abs=1e-6)


def test_where_black_is_nearer_than_the_threshold_the_answers_go_to_white() -> None:
    start, some = Grey(0.25), white()
    before, model = answers(TASK, start, some), copy.deepcopy(start)
    # Raising the error of a faint answer to white ends at black, 0.25 away.
    done = decouple(TASK, model, some, Ascent(10.0, 1.0, 30), 0.5, torch.Generator().manual_seed(0))
    assert done.displaced == 1.0 and float(displacements(TASK, model, some, before).min()) >= 0.5
    assert float(answers(TASK, model, some).mean()) > 0.5
    assert model.nothing.item() == 1.0
    assert abs(float((model.grey - start.grey).detach())) <= Ascent(10.0, 1.0, 30).bound


def test_of_two_ways_that_end_short_the_farther_one_is_taken() -> None:
    start, some = Grey(0.75), Samples(torch.zeros(12, 1, 8, 8), torch.zeros(12, dtype=torch.int64))
    before, model = answers(TASK, start, some), copy.deepcopy(start)
    done = decouple(TASK, model, some, Ascent(10.0, 1.0, 30), 0.9, torch.Generator().manual_seed(0))
    # Neither white, 0.25 away, nor black, 0.75 away, is far enough.
    assert done.displaced == 0.0 and done.displacement == pytest.approx(0.75, abs=0.01)
    assert torch.equal(displacements(TASK, model, some, before).mean(), torch.tensor(done.displacement))


def test_a_classifier_and_its_loss_have_one_way() -> None:
    task = get_task("digits")
    dataset = task.dataset(0)
    model, some = task.build("perceptron", 0, dataset).eval(), dataset.train.take(BATCH)
    (way,) = ways(task, model, some, answers(task, model, some), 0.5)
    expected = task.loss(model, task.inputs(some.inputs), some.labels).mean()
    assert torch.equal(way(BATCH, True), expected)

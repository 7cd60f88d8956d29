from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.models.moving_average import MovingAverage
from fedunlearn.strategies.decoupling import PATIENCE, Ascent, add_noise, decouple, is_displaced
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.outputs import answers, displacements

TASK = ClassificationTask("tiny", "digits")


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def samples(count: int = 30) -> Samples:
    generator = torch.Generator().manual_seed(1)
    return Samples(torch.randn(count, 4, generator=generator), torch.randint(0, 3, (count,), generator=generator))


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().double().square().sum()) for a, b in pairs))


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-3, 2.0), st.floats(1e-2, 5.0), st.integers(1, 12), st.floats(0.0, 2.0), st.integers(1, 3))
def test_the_parameters_never_come_farther_than_the_bound(step, clip, most, threshold, every) -> None:
    model, ascent = network(), Ascent(step, clip, most, every)
    done = decouple(TASK, model, samples(), ascent, threshold, torch.Generator().manual_seed(0))
    assert done.steps <= most and done.samples == 30 * done.steps
    # Weights are float32, and every step rounds them.
    assert distance(model, network()) <= step * done.steps * clip + 1e-5 <= ascent.bound * (1 + 1e-9) + 1e-5


def test_a_step_is_the_clipped_gradient_of_the_mean_loss() -> None:
    for clip in (1e3, 0.01):
        model, some = network(), samples()
        decouple(TASK, model, some, Ascent(0.1, clip, 1), math.inf, torch.Generator().manual_seed(0))
        start = network().eval()
        loss = TASK.loss(start, some.inputs, some.labels).mean()
        slopes = torch.autograd.grad(loss, list(start.parameters()))
        norm = math.sqrt(sum(float(slope.square().sum()) for slope in slopes))
        for moved, weight, slope in zip(model.parameters(), start.parameters(), slopes, strict=True):
            assert torch.allclose(moved, weight + 0.1 * min(1.0, clip / norm) * slope, atol=1e-6)


def test_it_stops_as_soon_as_95_of_100_answers_are_displaced() -> None:
    ascent, reached = Ascent(0.2, 1.0, 200), []
    for most in (200, None):
        model, some = network(), samples()
        limit = ascent if most else Ascent(0.2, 1.0, reached[0].steps - 1)
        reached.append(decouple(TASK, model, some, limit, 0.1, torch.Generator().manual_seed(0)))
        apart = displacements(TASK, model, some, answers(TASK, network(), some))
        assert reached[-1].displaced == pytest.approx(float((apart >= 0.1).double().mean()))
        assert reached[-1].displacement == pytest.approx(float(apart.mean()), abs=1e-6)
    assert 1 < reached[0].steps < 200
    assert reached[0].displaced >= 0.95 > reached[1].displaced


def test_the_five_percent_quantile_decides_and_not_the_median() -> None:
    half = torch.cat([torch.zeros(10), torch.ones(10)])
    assert not is_displaced(half, 0.5)
    assert not is_displaced(torch.cat([torch.zeros(2), torch.ones(18)]), 0.5)
    assert is_displaced(torch.cat([torch.zeros(1), torch.ones(19)]), 0.5)


class Saturating(nn.Module):
    """Answers that end at 0 or 1, however far the weights go."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 4 * self.inner(inputs).sigmoid()


def test_where_answers_come_no_farther_it_ends_at_the_farthest() -> None:
    some, ascent = samples(), Ascent(100.0, 1.0, 50)
    torch.manual_seed(0)
    start = Saturating()
    model = copy.deepcopy(start)
    done = decouple(TASK, model, some, ascent, math.inf, torch.Generator().manual_seed(0))
    apart = displacements(TASK, model, some, answers(TASK, start, some))
    assert done.displacement == pytest.approx(float(apart.mean())) and done.displaced == 0
    # So many looks in vain, after which the model is the one of the look before them.
    assert PATIENCE < done.steps < 50
    again = copy.deepcopy(start)
    decouple(TASK, again, some, Ascent(100.0, 1.0, done.steps - PATIENCE), math.inf, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_what_is_not_selected_and_statistics_stay_to_the_bit() -> None:
    model, rows = network(), torch.tensor([1, 4])
    portion = Portion({"0.weight": rows, "0.bias": rows, "3.weight": None, "3.bias": None})
    decouple(TASK, model, samples(), Ascent(0.1, 1.0, 5), math.inf, torch.Generator().manual_seed(0), portion)
    before, after = network().state_dict(), model.state_dict()
    frozen = [0, 2, 3, 5]
    assert torch.equal(after["0.weight"][frozen], before["0.weight"][frozen])
    assert not torch.equal(after["0.weight"][rows], before["0.weight"][rows])
    for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(after[name], before[name]), name
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


class Averaged(nn.Module):
    """A network that answers with the moving average of its weights, and learns with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.average = MovingAverage(self.inner, "inner.", 0.9)
        with torch.no_grad():
            self.average.get_buffer("weight").add_(0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weights = {} if torch.is_grad_enabled() else self.average.parameters_of(self.inner)
        return functional_call(self.inner, weights, (inputs,))


def test_moving_averages_go_along_and_start_anew_with_noise() -> None:
    torch.manual_seed(0)
    model = Averaged()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = decouple(TASK, model, samples(), Ascent(0.5, 1.0, 4), math.inf, torch.Generator().manual_seed(0))
    assert done.displacement > 0
    after = model.state_dict()
    for name in ("weight", "bias"):
        moved = after[f"inner.{name}"] - before[f"inner.{name}"]
        assert torch.allclose(after[f"average.{name}"] - before[f"average.{name}"], moved, atol=1e-6) and moved.any()
    add_noise(model, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(model.average.get_buffer("weight"), model.inner.weight)


def test_noise_reaches_every_parameter_with_its_deviation() -> None:
    model = nn.Linear(200, 100)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    add_noise(model, 0.3, torch.Generator().manual_seed(0))
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert (parameter != old).all()
        assert float((parameter - old).detach().std()) == pytest.approx(0.3, rel=0.2)

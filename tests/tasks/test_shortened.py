from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.models import networks
from fedunlearn.tasks import ClassificationTask, shortened, training
from fedunlearn.tasks.frozen_layers import FrozenLayers
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.selected_parameters import SelectedParameters
from fedunlearn.tasks.shortened import ShortenedModel
from fedunlearn.tasks.training import TrainingSettings, train_locally

TASK = ClassificationTask("pictures", "digits")


class DoublePrecision(ClassificationTask):
    """Rounding is then far below anything that a missing gradient would do."""

    def inputs(self, raw: Tensor) -> Tensor:
        return super().inputs(raw).double()


DOUBLE = DoublePrecision("pictures", "digits")
RECIPE = TrainingSettings(local_epochs=2, learning_rate=0.05, momentum=0.9, weight_decay=0.01, batch_size=7)


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortened, "_seen", {})


def samples(count: int = 24) -> Samples:
    generator = torch.Generator().manual_seed(4)
    return Samples(
        torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator),
        torch.randint(0, 3, (count,), generator=generator),
    )


def network(name: str) -> nn.Module:
    with isolated_seed(1):
        return networks.get(name)((1, 8, 8), 3)


def portion_of(model: nn.Module, ratio: float, leave_out: int) -> Portion:
    layout = channel_layout(model, torch.zeros(1, 1, 8, 8))
    selected = {}
    for number, group in enumerate(layout.groups):
        count = 0 if number < leave_out else math.ceil(ratio * group.channels)
        selected[group.layer] = torch.arange(group.channels)[:: max(1, group.channels // max(1, count))][:count]
    return ChannelMask(selected).portion(layout)


def trained(
    model: nn.Module,
    portion: Portion,
    plainly: bool,
    recipe: TrainingSettings = RECIPE,
    task: ClassificationTask = TASK,
) -> dict[str, Tensor]:
    """The model after training; `plainly` without anything that this package does to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        if plainly:
            patch.setattr(SelectedParameters, "some_are_frozen", False)
            patch.setattr(SelectedParameters, "compute_selected_rows_only", lambda self: self.compute_all_rows())
            patch.setattr(training, "weights_channels_last", lambda model: nullcontext())
        train_locally(task, model, samples(), recipe, torch.Generator().manual_seed(9), portion)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["lenet", "groupnorm-cnn", "resnet20"]),
    ratio=st.sampled_from([0.1, 0.3, 0.9]),
    leave_out=st.integers(0, 3),
)
def test_the_short_way_ends_where_the_plain_one_does(name: str, ratio: float, leave_out: int) -> None:
    before = {key: tensor.clone() for key, tensor in network(name).double().state_dict().items()}
    portion = portion_of(network(name), ratio, leave_out)
    plain, quick = (trained(network(name).double(), portion, plainly, task=DOUBLE) for plainly in (True, False))
    for key, tensor in plain.items():
        torch.testing.assert_close(quick[key], tensor, rtol=0, atol=1e-9)
        rows = portion.rows.get(key, torch.empty(0, dtype=torch.int64))
        if rows is not None:
            frozen = torch.ones(len(tensor), dtype=torch.bool)
            frozen[rows] = False
            assert torch.equal(quick[key][frozen], before[key][frozen]), key


@pytest.mark.parametrize("name", ["lenet", "groupnorm-cnn", "resnet20"])
def test_a_single_step_is_the_same_to_a_millionth(name: str) -> None:
    step = TrainingSettings(1, 0.05, momentum=0.9, batch_size=24)
    portion = portion_of(network(name), 0.1, 1)
    plain, quick = (trained(network(name), portion, plainly, step) for plainly in (True, False))
    for key, tensor in plain.items():
        torch.testing.assert_close(quick[key], tensor, rtol=0, atol=1e-6)


def shorten(model: nn.Module, portion: Portion, epochs: int = 2, loss: shortened.Loss = TASK.loss):  # type: ignore[no-untyped-def]
    model.train()
    selected = SelectedParameters(model, portion)
    return selected, ShortenedModel(model, selected, loss, epochs, 24)


def call(short: ShortenedModel, data: Samples, positions: Tensor) -> nn.Module:
    called, inputs = short.for_batch(lambda: TASK.inputs(data.inputs[positions]), data.labels[positions], positions)
    called(inputs)
    return called


def test_the_first_layers_run_once_a_sample_when_an_epoch_follows() -> None:
    for epochs, runs in ((1, 2), (2, 1)):
        model = network("lenet")
        selected, short = shorten(model, portion_of(model, 0.5, 1), epochs)
        call(short, samples(), torch.arange(24))  # tried out, and kept if there is more to come
        seen: list[int] = []
        handle = model.get_submodule("convolution1").register_forward_hook(lambda m, i, o, s=seen: s.append(len(o)))
        for positions in (torch.arange(12), torch.arange(12, 24)):
            assert isinstance(call(short, samples(), positions), FrozenLayers)
        assert len(seen) == (2 if runs == 2 else 0)
        handle.remove()
        selected.__exit__(None, None, None)


class Functional(nn.Module):
    """Uses the weight of a layer behind that layer's back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 2048)
        self.last = nn.Linear(2048, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return self.last(functional.relu(self.first(flat) + functional.linear(flat, self.first.weight)))


def test_where_the_short_way_misses_a_gradient_the_plain_one_is_taken() -> None:
    portion = Portion({"first.weight": torch.arange(4), "first.bias": torch.arange(4), "last.bias": None})
    results = []
    for plainly in (True, False):
        with isolated_seed(3):
            model = Functional()
        results.append(trained(model, portion, plainly))
    assert list(shortened._seen.values()) == [False]
    for key, tensor in results[0].items():
        torch.testing.assert_close(results[1][key], tensor, rtol=0, atol=1e-6)


def test_a_loss_that_only_takes_the_model_itself_gets_it() -> None:
    model = network("lenet")

    def picky(called: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        if called is not model:
            raise TypeError("not the model that I know")
        return TASK.loss(called, inputs, labels)

    selected, short = shorten(model, portion_of(model, 0.5, 1), loss=picky)
    assert call(short, samples(), torch.arange(24)) is model
    selected.__exit__(None, None, None)


def test_inputs_that_differ_every_time_are_not_kept() -> None:
    model = network("lenet")
    selected, short = shorten(model, portion_of(model, 0.5, 1))
    generator = torch.Generator().manual_seed(0)
    runs: list[int] = []
    model.get_submodule("convolution1").register_forward_hook(lambda m, i, o: runs.append(len(o)))
    for _ in range(3):
        before = len(runs)
        called, inputs = short.for_batch(
            lambda: torch.rand(24, 1, 8, 8, generator=generator), samples().labels, torch.arange(24)
        )
        tried = len(runs)
        called(inputs)
        assert len(runs) == tried + 1 and tried >= before
    selected.__exit__(None, None, None)


def test_an_architecture_is_tried_once() -> None:
    steps: list[int] = []

    def counted(called: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        steps.append(len(labels))
        return TASK.loss(called, inputs, labels)

    portion = portion_of(network("lenet"), 0.3, 0)
    for expected in (2, 2):
        selected, short = shorten(network("lenet"), portion, loss=counted)
        short.for_batch(lambda: TASK.inputs(samples().inputs), samples().labels, torch.arange(24))
        selected.__exit__(None, None, None)
        assert len(steps) == expected


def test_trying_leaves_no_trace() -> None:
    with isolated_seed(1):
        model = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(1152, 3)
        )
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    portion = Portion({"0.weight": torch.arange(4), "0.bias": torch.arange(4), "5.bias": None})
    selected, short = shorten(model, portion)
    random = torch.get_rng_state()
    short.for_batch(lambda: TASK.inputs(samples().inputs), samples().labels, torch.arange(24))
    assert torch.equal(torch.get_rng_state(), random)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert all(leaf.grad is None for leaf in selected.leaves)
    selected.__exit__(None, None, None)

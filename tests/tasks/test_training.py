from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion
from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.models import networks
from fedunlearn.tasks import ClassificationTask
from fedunlearn.tasks.device import Device
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.training import TrainingSettings, evaluate, train_locally

TASK = ClassificationTask("pictures", "digits")
HARD = TrainingSettings(local_epochs=2, learning_rate=0.1, momentum=0.9, weight_decay=0.01, batch_size=7)


def samples(count: int = 24) -> Samples:
    generator = torch.Generator().manual_seed(4)
    return Samples(
        torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator),
        torch.randint(0, 3, (count,), generator=generator),
    )


def network(name: str = "lenet") -> nn.Module:
    with isolated_seed(1):
        if name == "batch-norm":
            return nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
                nn.Dropout(0.2),
                nn.Linear(144, 3),
            )
        return networks.get(name)((1, 8, 8), 3)


def shuffled() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(model: nn.Module, portion: Portion | None = None, how: TrainingSettings = HARD) -> dict[str, Tensor]:
    train_locally(TASK, model, samples(), how, shuffled(), portion)
    return state_of(model)


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    for name in first:
        assert torch.equal(first[name], second[name]), name


@st.composite
def portions(draw: st.DrawFn, model: nn.Module) -> Portion:
    rows: dict[str, Tensor | None] = {}
    for name, tensor in model.state_dict().items():
        kind = draw(st.sampled_from(["absent", "whole", "rows"])) if tensor.ndim else "absent"
        if kind == "whole":
            rows[name] = None
        elif kind == "rows":
            chosen = draw(st.sets(st.integers(0, len(tensor) - 1), max_size=4))
            rows[name] = torch.tensor(sorted(chosen), dtype=torch.int64)
    last = list(dict(model.named_parameters()))[-1]
    return Portion({**rows, last: None})


@settings(deadline=None, max_examples=15)
@given(st.data(), st.sampled_from(["lenet", "groupnorm-cnn", "batch-norm"]), st.sampled_from([0.0, 0.3]))
def test_outside_the_portion_every_bit_stays(data: st.DataObject, name: str, proximal_mu: float) -> None:
    model = network(name)
    portion, before = data.draw(portions(model)), state_of(model)
    how = TrainingSettings(1, 0.1, momentum=0.9, weight_decay=0.01, batch_size=7, proximal_mu=proximal_mu)
    after = train(model, portion, how)
    for tensor_name, tensor in before.items():
        frozen = torch.ones_like(tensor, dtype=torch.bool)
        if tensor_name in portion.rows:
            rows = portion.rows[tensor_name]
            frozen[... if rows is None else rows] = False
        assert torch.equal(tensor[frozen], after[tensor_name][frozen]), tensor_name
    last = list(dict(model.named_parameters()))[-1]
    assert not torch.equal(before[last], after[last])


@pytest.mark.parametrize("name", ["lenet", "groupnorm-cnn", "resnet20"])
def test_all_rows_selected_is_ordinary_training(name: str) -> None:
    ordinary = train(network(name))
    rows = {name: torch.arange(len(tensor)) for name, tensor in network(name).state_dict().items()}
    assert_equal(ordinary, train(network(name), Portion(dict(rows))))
    assert_equal(ordinary, train(network(name), Portion.everything(ordinary)))
    layout = channel_layout(network(name), torch.zeros(1, 1, 8, 8))
    assert_equal(ordinary, train(network(name), ChannelMask.full(layout).portion(layout)))


def test_everything_includes_batch_norm_statistics() -> None:
    ordinary = train(network("batch-norm"))
    assert_equal(ordinary, train(network("batch-norm"), Portion.everything(ordinary)))
    assert not torch.equal(ordinary["1.running_mean"], torch.zeros(4))
    assert ordinary["1.num_batches_tracked"] == 8


def test_some_channels_of_batch_norm_use_the_stored_statistics() -> None:
    model = network("batch-norm")
    with torch.no_grad():
        model[1].running_mean.fill_(0.3)
    channels = torch.tensor([1, 3])
    names = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    after = train(model, Portion(dict.fromkeys(names, channels)))
    assert torch.equal(after["1.running_mean"], torch.full((4,), 0.3))
    assert after["1.num_batches_tracked"] == 0
    assert not torch.equal(after["1.weight"][channels], torch.ones(2))
    assert torch.equal(after["1.weight"][[0, 2]], torch.ones(2))


def test_training_is_torchs_own_descent() -> None:
    expected, model = network(), network()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    data, order, total = samples(), shuffled(), 0.0
    for _ in range(2):
        for batch in torch.randperm(24, generator=order).split(7):
            optimizer.zero_grad()
            loss = functional.cross_entropy(expected(data.inputs[batch] / 255), data.labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
    result = train_locally(TASK, model, data, HARD, shuffled())
    assert_equal(state_of(expected), state_of(model))
    assert (result.batches, result.samples) == (8, 24)
    assert result.mean_loss == pytest.approx(total / 48)


def test_selected_rows_move_as_if_frozen_ones_were_put_back() -> None:
    """Against the naive way: an ordinary optimiser, and every step's frozen rows restored."""
    model, expected = network(), network()
    layout = channel_layout(model, torch.zeros(1, 1, 8, 8))
    mask = ChannelMask({group.layer: torch.arange(0, group.channels, 3) for group in layout.groups})
    portion, start = mask.portion(layout), state_of(expected)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    data, order = samples(), shuffled()
    for _ in range(2):
        for batch in torch.randperm(24, generator=order).split(7):
            optimizer.zero_grad()
            functional.cross_entropy(expected(data.inputs[batch] / 255), data.labels[batch]).backward()
            optimizer.step()
            with torch.no_grad():
                for name, parameter in expected.named_parameters():
                    rows = portion.rows.get(name, torch.empty(0, dtype=torch.int64))
                    if rows is not None:
                        kept = start[name].clone()
                        kept[rows] = parameter[rows]
                        parameter.copy_(kept)
    train_locally(TASK, model, data, HARD, shuffled(), portion)
    for name, tensor in state_of(expected).items():
        # Rows by themselves are summed in another order.
        assert torch.allclose(state_of(model)[name], tensor, rtol=0, atol=2e-6), name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["lenet", "groupnorm-cnn", "batch-norm"])
def test_bfloat16_goes_where_float32_goes(name: str, masked: bool) -> None:
    """Its second step starts where the first one ended: from the first weights, it would be twice as far away."""
    how = TrainingSettings(local_epochs=1, learning_rate=0.05, momentum=0.9, batch_size=12)
    start, portion = state_of(network(name)), None
    if masked:
        layout = channel_layout(network(name), torch.zeros(1, 1, 8, 8))
        portion = ChannelMask({group.layer: torch.tensor([1, 2]) for group in layout.groups}).portion(layout)
    ends: list[Tensor] = []
    for precision in ("float32", "bfloat16"):
        model = network(name)
        train_locally(TASK, model, samples(), how, shuffled(), portion, device=Device(precision=precision))
        moved = {n: parameter.detach() - start[n] for n, parameter in model.named_parameters()}
        ends.append(torch.cat([one.flatten() for one in moved.values()]))
    assert 0 < float((ends[1] - ends[0]).norm()) < 0.05 * float(ends[0].norm())
    for n, one in moved.items() if portion is not None else ():
        rows = portion.rows.get(n, torch.empty(0, dtype=torch.int64))
        assert rows is None or not one.index_fill(0, rows, 0.0).any(), n


def test_the_proximal_pull() -> None:
    """One step of all samples: w - lr (g + mu (w - anchor)), FedProx's equation 2 differentiated."""
    data, model = samples(), network()
    anchor = {name: tensor + 0.5 for name, tensor in model.state_dict().items()}
    start = copy.deepcopy(model)
    functional.cross_entropy(start(data.inputs / 255), data.labels).backward()
    one_step = TrainingSettings(1, 0.1, momentum=0.0, batch_size=24, proximal_mu=0.2)
    train_locally(TASK, model, data, one_step, shuffled(), anchor=anchor)
    for (name, parameter), trained in zip(start.named_parameters(), model.parameters(), strict=True):
        expected = parameter - 0.1 * (parameter.grad + 0.2 * (parameter - anchor[name]))
        assert torch.allclose(trained, expected, atol=1e-6), name


def test_without_an_anchor_the_pull_is_to_the_start() -> None:
    def distance(proximal_mu: float) -> float:
        model = network()
        start = state_of(model)
        train(model, how=TrainingSettings(5, 0.05, batch_size=8, proximal_mu=proximal_mu))
        return sum(float((tensor - start[name]).norm()) for name, tensor in model.state_dict().items())

    assert distance(2.0) < 0.7 * distance(0.0)


def test_another_loss_may_replace_the_tasks() -> None:
    model = network()
    before = float(evaluate(TASK, model, samples()).losses.mean())

    def ascent(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return -TASK.loss(model, inputs, labels)

    result = train_locally(TASK, model, samples(), TrainingSettings(1, 0.05), shuffled(), loss=ascent)
    assert result.mean_loss < 0
    assert float(evaluate(TASK, model, samples()).losses.mean()) > before


def test_training_learns() -> None:
    model = network()
    before = float(evaluate(TASK, model, samples()).losses.mean())
    train(model, how=TrainingSettings(10, 0.1))
    assert float(evaluate(TASK, model, samples()).losses.mean()) < 0.9 * before


def test_the_generator_alone_decides_about_order_and_dropout() -> None:
    torch.manual_seed(1)
    first = train(network("batch-norm"))
    torch.manual_seed(2)
    undisturbed = torch.get_rng_state()
    assert_equal(first, train(network("batch-norm")))
    assert torch.equal(torch.get_rng_state(), undisturbed)
    other = network("batch-norm")
    train_locally(TASK, other, samples(), HARD, torch.Generator().manual_seed(10))
    assert not torch.equal(first["5.weight"], other.state_dict()["5.weight"])


def test_dropout_differs_from_call_to_call() -> None:
    """Full batches and a step size of zero: nothing but dropout can change the loss."""
    model, generator = network("batch-norm"), shuffled()
    still = TrainingSettings(1, 0.0, batch_size=24)
    portion = Portion({"5.bias": None})
    losses = [train_locally(TASK, model, samples(), still, generator, portion).mean_loss for _ in range(2)]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_modes_and_flags_are_given_back() -> None:
    model = network("batch-norm").eval()
    model[0].weight.requires_grad_(False)
    before = state_of(model)
    for portion in (None, Portion({"5.bias": None})):
        train(model, portion)
        assert not any(module.training for module in model.modules())
        assert [parameter.requires_grad for parameter in model.parameters()] == [False, *[True] * 5]
        assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(model.state_dict()["0.weight"], before["0.weight"])


def test_a_diverged_training_returns_its_loss_and_spares_the_rest() -> None:
    def broken(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return TASK.loss(model, inputs, labels) * math.nan

    model = network()
    before = state_of(model)
    portion = Portion({"hidden.weight": torch.tensor([2]), "output.bias": None})
    result = train_locally(TASK, model, samples(), HARD, shuffled(), portion, loss=broken)
    assert math.isnan(result.mean_loss)
    assert model.state_dict()["hidden.weight"][2].isnan().all()
    untouched = [row for row in range(64) if row != 2]
    assert torch.equal(model.state_dict()["hidden.weight"][untouched], before["hidden.weight"][untouched])


@pytest.mark.parametrize("count", [1, 8, 15])
def test_batch_norm_never_meets_a_single_sample(count: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    result = train_locally(TASK, model, samples(count), HARD, shuffled())
    assert math.isfinite(result.mean_loss)
    assert result.batches == 2 * max(1, count // 7)


def test_no_samples_get_a_sentence() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        train_locally(TASK, network(), samples(0), HARD, shuffled())


@pytest.mark.parametrize("batch_size", [5, 24, 64])
def test_evaluation_is_the_plain_forward_pass(batch_size: int) -> None:
    model = network("batch-norm").train()
    before = state_of(model)
    evaluation = evaluate(TASK, model, samples(), batch_size)
    assert model.training and model[4].training
    assert_equal(before, state_of(model))
    with torch.no_grad():
        logits = model.eval()(samples().inputs / 255)
    assert torch.allclose(evaluation.logits, logits, atol=1e-6)
    assert torch.equal(evaluation.predictions, logits.argmax(1))
    expected = functional.cross_entropy(logits, samples().labels, reduction="none")
    assert torch.allclose(evaluation.losses, expected, atol=1e-6)


def test_evaluating_no_samples_gives_empty_answers() -> None:
    evaluation = evaluate(TASK, network(), samples(0))
    assert evaluation.logits.shape == (0, 3)
    assert evaluation.losses.shape == evaluation.predictions.shape == (0,)


def test_a_task_without_a_loss_of_logits_is_evaluated_alike() -> None:
    class Plain:
        name, networks, default_network = "plain", ("lenet",), "lenet"
        dataset, build, inputs = TASK.dataset, TASK.build, staticmethod(TASK.inputs)

        def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
            return TASK.loss(model, inputs, labels)

        def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
            return TASK.predict(model, inputs)

    model = network()
    assert torch.equal(evaluate(Plain(), model, samples()).losses, evaluate(TASK, model, samples()).losses)


def test_the_recipe_is_that_of_the_settings() -> None:
    settings = FederationSettings(local_epochs=3, learning_rate=0.5, momentum=0.1, batch_size=7)
    assert TrainingSettings.of(settings) == TrainingSettings(3, 0.5, momentum=0.1, batch_size=7)

"""A cohort against `train_locally`, client by client."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError, SettingsError
from fedunlearn.models import networks
from fedunlearn.tasks import ClassificationTask, cohort
from fedunlearn.tasks.cohort import could_gain, one_by_one, train_cohort, train_one
from fedunlearn.tasks.cohort_choice import Choice, Choices
from fedunlearn.tasks.device import THIS_PROCESSOR, Device
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.training import TrainingResult, TrainingSettings, train_locally

TASK = ClassificationTask("pictures", "digits")
HARD = TrainingSettings(1, 0.05, momentum=0.9, weight_decay=0.001, batch_size=4, proximal_mu=0.1)
RAGGED = (40, 40, 39, 34, 3, 17)
NETWORKS = ("lenet", "groupnorm-cnn", "resnet20")

Build = Callable[[], nn.Module]


def network(name: str) -> Build:
    return lambda: networks.get(name)((1, 8, 8), 10)


def trainings(
    build: Build, counts: Sequence[int], how: TrainingSettings = HARD, portion: Portion | None = None, task=TASK
) -> list[LocalTraining]:
    with isolated_seed(1):
        start = build()
    data = torch.Generator().manual_seed(4)
    made = []
    for client, count in enumerate(counts):
        samples = Samples(
            torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=data),
            torch.randint(0, 10, (count,), generator=data),
        )
        order = torch.Generator().manual_seed(client)
        made.append(LocalTraining(task, copy.deepcopy(start), samples, how, order, portion))
    return made


def state(training: LocalTraining) -> list[Tensor]:
    return list(training.model.state_dict().values())


def assert_equal(one: Sequence[LocalTraining], other: Sequence[LocalTraining]) -> None:
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(state(a), state(b), strict=True))


def furthest(one: Sequence[LocalTraining], other: Sequence[LocalTraining]) -> float:
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(state(a), state(b), strict=True)]
    return max(float((x.float() - y.float()).abs().max()) for x, y in pairs)


def half_of(name: str) -> Portion:
    model = network(name)()
    layout = channel_layout(model, torch.zeros(2, 1, 8, 8))
    mask = ChannelMask({group.layer: torch.arange(0, group.channels, 2) for group in layout.groups})
    return mask.portion(layout)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cohort_gives_every_bit_of_single_clients(name: str) -> None:
    alone, together = (trainings(network(name), RAGGED) for _ in range(2))
    expected = [train_locally(*one) for one in alone]
    choices = Choices()
    assert train_cohort(together, 6, choices) == expected
    assert_equal(alone, together)
    (known,) = choices._known.values()
    assert known.widths(6, 6), "nobody was trained together"
    # Once it is known what is exact, the first batch on is computed together.
    again = trainings(network(name), RAGGED)
    assert train_cohort(again, 6, choices) == expected
    assert_equal(alone, again)
    assert [one.generator.get_state().tolist() for one in again] == [
        one.generator.get_state().tolist() for one in alone
    ]


def train_and_restore(training: LocalTraining) -> None:
    """The naive way with a portion: every row is trained, and what may not change is put back after each step."""
    model, how = training.model, training.settings
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), how.learning_rate, how.momentum)
    for batch in torch.randperm(len(training.samples), generator=training.generator).split(how.batch_size):
        optimizer.zero_grad()
        losses = TASK.loss(model, TASK.inputs(training.samples.inputs[batch]), training.samples.labels[batch])
        losses.mean().backward()
        optimizer.step()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                rows = training.portion.rows.get(name, torch.empty(0, dtype=torch.int64))
                if rows is not None:
                    kept = start[name].clone()
                    kept[rows] = parameter[rows]
                    parameter.copy_(kept)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_portion_is_every_bit_of_the_naive_way(name: str) -> None:
    """And within a hundred thousandth of `train_locally`, as far as that itself is of the naive way."""
    how = TrainingSettings(1, 0.01, momentum=0.9, batch_size=8)
    portion = half_of(name)
    alone, together, naive, start = (trainings(network(name), (96, 90, 72), how, portion) for _ in range(4))
    for one, other in zip(alone, naive, strict=True):
        train_locally(*one)
        train_and_restore(other)
    choices = Choices()
    train_cohort(together, 3, choices, exact=False)
    assert any(known.widths(3, 3) for known in choices._known.values())
    assert_equal(naive, together)
    assert furthest(alone, together) <= max(1e-5, furthest(alone, naive))
    assert furthest(together, start) > 1e-3
    for before, after in zip(start, together, strict=True):
        for key, tensor in before.model.state_dict().items():
            frozen = torch.ones_like(tensor, dtype=torch.bool)
            if key in portion.rows:
                rows = portion.rows[key]
                frozen[... if rows is None else rows] = False
            assert torch.equal(tensor[frozen], after.model.state_dict()[key][frozen]), key


def test_a_portion_of_everything_is_no_portion() -> None:
    whole = Portion.everything(network("lenet")().state_dict())
    alone, together = trainings(network("lenet"), RAGGED), trainings(network("lenet"), RAGGED, portion=whole)
    assert train_cohort(together, 6) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)


def test_partly_frozen_models_are_left_to_the_short_cuts_of_single_training() -> None:
    choices = Choices()
    alone, together = (trainings(network("lenet"), RAGGED, portion=half_of("lenet")) for _ in range(2))
    assert train_cohort(together, 6, choices) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)
    assert not could_gain(together[0], choices, THIS_PROCESSOR)


def test_clients_of_the_same_size_and_of_none_that_is_full() -> None:
    for counts in ((16, 16, 16), (5, 3, 7), (8, 1)):
        alone, together = (trainings(network("lenet"), counts) for _ in range(2))
        assert train_cohort(together, 3) == [train_locally(*one) for one in alone]
        assert_equal(alone, together)


def test_more_clients_than_may_be_together() -> None:
    alone, together = (trainings(network("lenet"), (36,) * 7) for _ in range(2))
    assert train_cohort(together, 3) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)


def test_auto_changes_no_bit_either() -> None:
    alone, together = (trainings(network("lenet"), (48,) * 6) for _ in range(2))
    choices = Choices()
    assert train_cohort(together, "auto", choices) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)
    (known,) = choices._known.values()
    assert known.refused is not None or (known.alone < math.inf and known.trials)


def test_diverged_clients_take_nobody_with_them() -> None:
    alone, together = (trainings(network("lenet"), (36,) * 3) for _ in range(2))
    for one in (alone[1], together[1]):
        one.model.output.bias.data.fill_(math.nan)
    expected = [train_locally(*one) for one in alone]
    results = train_cohort(together, 3)
    assert math.isnan(results[1].mean_loss) and [results[0], results[2]] == [expected[0], expected[2]]
    assert_equal([alone[0], alone[2]], [together[0], together[2]])


def test_a_frozen_parameter_stays_and_flags_are_given_back() -> None:
    made = trainings(network("lenet"), RAGGED)
    for one in made:
        one.model.eval()
        one.model.hidden.bias.requires_grad_(False)
    before = made[0].model.hidden.bias.detach().clone()
    train_cohort(made, 6, exact=False)
    for one in made:
        assert torch.equal(one.model.hidden.bias, before) and not one.model.hidden.bias.requires_grad
        assert not one.model.training
        assert all(p.grad is None for p in one.model.parameters())


class Mixing(nn.Module):
    """Its answer for one sample depends on the others of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return self.output(flat - flat.mean(dim=0))


class Remembering(Mixing):
    """It keeps something of every batch in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return self.output(inputs.flatten(1))


class Scaling(Mixing):
    """It uses a parameter outside of any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(inputs.flatten(1) * self.scale)


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


@pytest.mark.parametrize("build", [with_batch_norm, with_dropout, Remembering, Mixing, Scaling])
def test_models_that_cannot_be_put_together_are_trained_one_by_one(build: Build) -> None:
    how = TrainingSettings(2, 0.05, batch_size=8)
    alone, together = (trainings(build, (100,) * 4, how) for _ in range(2))
    choices = Choices()
    assert train_cohort(together, 4, choices) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)
    (known,) = choices._known.values()
    assert known.widths(4, 4) == []


def test_other_kernels_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a layer together not the layer alone, single steps would count."""
    honest = cohort.SideBySide

    class Wrong(honest):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs)
            return result * (1 + 1e-7) if func is functional.linear else result

    monkeypatch.setattr(cohort, "SideBySide", Wrong)
    alone, together = (trainings(network("lenet"), (40,) * 3) for _ in range(2))
    choices = Choices()
    assert train_cohort(together, 3, choices) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)
    (known,) = choices._known.values()
    assert known.together(3) == math.inf


def test_trainings_that_differ_are_done_one_by_one() -> None:
    alone, together = (trainings(network("lenet"), (72, 72)) for _ in range(2))
    other = TrainingSettings(1, 0.3)
    alone[1], together[1] = alone[1]._replace(settings=other), together[1]._replace(settings=other)
    assert train_cohort(together, 2) == [train_locally(*one) for one in alone]
    assert_equal(alone, together)


def test_wrong_trainings_get_the_sentences_of_single_ones() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        train_cohort(trainings(network("lenet"), (72, 0)), 2)
    with pytest.raises(SettingsError, match="selects no parameter"):
        train_cohort(trainings(network("lenet"), (72, 72), portion=Portion({})), 2)


@pytest.mark.parametrize("portion", [None, half_of("groupnorm-cnn")])
def test_elsewhere_vmap_agrees_with_single_clients(portion: Portion | None) -> None:
    """The computation of other devices, on this one, in float32."""
    how = TrainingSettings(1, 0.01, momentum=0.9, batch_size=8)
    alone, together = (trainings(network("groupnorm-cnn"), (40, 40, 37), how, portion) for _ in range(2))
    expected = [train_locally(*one) for one in alone]
    device = Device(name="cpu:0")
    assert not device.plain
    results = train_cohort(together, 3, device=device)
    assert furthest(alone, together) < 1e-5
    assert [one.batches for one in results] == [one.batches for one in expected]
    assert [one.mean_loss for one in results] == pytest.approx([one.mean_loss for one in expected], abs=1e-5)


def test_bfloat16_trains_float32_weights() -> None:
    half = Device(precision="bfloat16")
    made = trainings(network("groupnorm-cnn"), (40, 33), TrainingSettings(4, 0.05, batch_size=8))
    first, second = train_cohort(made, 2, device=half)
    assert all(tensor.dtype == torch.float32 for tensor in state(made[0]))
    single = trainings(network("groupnorm-cnn"), (40, 33), TrainingSettings(4, 0.05, batch_size=8))
    assert train_one(single[0], half).mean_loss == pytest.approx(first.mean_loss, abs=0.02)
    assert second.batches == 20 and furthest(made, single[:1] + made[1:]) > 0


def test_on_a_processor_only_a_number_makes_cohorts_of_another_precision() -> None:
    """One after the other, digests do not depend on which clients an engine puts together."""
    half, gpu = Device(precision="bfloat16"), Device("cuda", "bfloat16")
    assert one_by_one("auto", half) and not one_by_one(2, half)
    assert not one_by_one("auto", gpu) and not one_by_one("auto", THIS_PROCESSOR)
    assert all(one_by_one(1, device) for device in (half, gpu, THIS_PROCESSOR))
    together, alone = (trainings(network("groupnorm-cnn"), (40, 33)) for _ in range(2))
    train_cohort(together, device=half)
    for one in alone:
        train_locally(*one, device=half)
    assert_equal(together, alone)


def test_a_model_that_cannot_be_stacked_trains_elsewhere_by_itself() -> None:
    made = trainings(with_batch_norm, (40, 40), TrainingSettings(2, 0.05, batch_size=8))
    results = train_cohort(made, 2, device=Device(precision="bfloat16"))
    assert all(isinstance(one, TrainingResult) and math.isfinite(one.mean_loss) for one in results)
    assert made[0].model[2].num_batches_tracked == 10


def test_a_compiled_step_is_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through torch.compile, with a back end that makes no code, which would take it a minute."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile(function, backend="eager"))
    how = TrainingSettings(1, 0.05, batch_size=8)
    alone, together, compiled = (trainings(network("lenet"), (16, 16), how) for _ in range(3))
    for one in alone:
        train_locally(*one)
    train_cohort(together, 2, device=Device(compile=True))
    assert furthest(alone, together) < 1e-5
    for one in compiled:
        train_one(one, Device(compile=True))
    assert furthest(alone, compiled) < 1e-5


def test_known_refusals_cost_nothing() -> None:
    choices = Choices()
    (one,) = trainings(network("lenet"), (16,))
    assert could_gain(one, choices, THIS_PROCESSOR)
    for known in choices._known.values():
        known.refused = "measured"
    assert not could_gain(one, choices, THIS_PROCESSOR)
    assert isinstance(next(iter(choices._known.values())), Choice)

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedunlearn.audit import inversion
from fedunlearn.audit.inversion import InversionSettings, invert, likeness, recognised, total_variation
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.tasks import Task
from fedunlearn.tasks.training import TrainingSettings, train_locally

SHAPE = (1, 8, 8)


class Linear(nn.Module):
    """One weight image a class: what inversion paints is known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs.flatten(1))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_paints_the_weights_of_a_linear_model(task: Task) -> None:
    model = Linear()
    with torch.no_grad():
        model.layer.weight.zero_()
        model.layer.weight[4, :32] = 1.0
        model.layer.weight[4, 32:] = -1.0
    made = invert(task, model, 4, SHAPE, generator(), InversionSettings(steps=60, smoothing=0.0))
    assert made.shape == (16, *SHAPE) and float(made.min()) >= 0 and float(made.max()) <= 1
    flat = made.flatten(1).mean(dim=0)
    assert float(flat[:32].min()) > 0.75 and float(flat[32:].max()) < 0.25
    assert recognised(task, model, made, 4) > 0.9 > 0.1 > recognised(task, model, 1 - made, 4)


def test_likeness_is_the_correlation_with_what_sets_the_class_apart() -> None:
    others = torch.zeros(30, *SHAPE)
    of_class = torch.zeros(25, *SHAPE)
    of_class[:, :, :4] = 1.0
    assert likeness(of_class, of_class, others) == pytest.approx(1.0)
    assert likeness(-of_class, of_class, others) == pytest.approx(-1.0)
    left = torch.zeros(3, *SHAPE)
    left[:, :, :, :4] = 1.0
    assert likeness(left, of_class, others) == pytest.approx(0.0, abs=1e-9)
    assert likeness(torch.full((2, *SHAPE), 0.7), of_class, others) == 0.0, "brighter all over is like nothing"


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert float(total_variation(image)) == pytest.approx(1.0)
    assert float(total_variation(torch.rand(3, 5))) == 0.0


def test_a_class_that_was_never_learned_cannot_be_painted(task: Task, dataset: Dataset) -> None:
    """Class 3: in the original's data, in nobody's data, and only denied by the output layer."""
    labels = dataset.train.labels
    recipe = TrainingSettings(local_epochs=5, learning_rate=0.05)
    models = {}
    for name, seed, keep in (("original", 0, labels >= 0), ("judge", 7, labels >= 0), ("retrained", 1, labels != 3)):
        models[name] = task.build(None, seed, dataset)
        own = dataset.train.take(keep.nonzero().flatten())
        train_locally(task, models[name], own, recipe, torch.Generator().manual_seed(seed))
    inputs = task.inputs(dataset.train.inputs)
    alike, seen = {}, {}
    for name in ("original", "retrained"):
        made = invert(task, models[name], 3, SHAPE, generator())
        alike[name] = likeness(made, inputs[labels == 3], inputs[labels != 3])
        seen[name] = recognised(task, models["judge"], made, 3)
    assert alike["original"] > alike["retrained"] + 0.1
    assert seen["original"] > 0.5 > seen["retrained"]


def test_the_metric(target: Subject) -> None:
    network = target.network(target.model)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one_class = target.forget.labels == int(target.forget.labels.bincount().argmax())
    assert int(one_class.sum()) >= 20
    found = inversion.measure(target, generator())
    assert found["classes"] == min(3, int((target.forget.labels.bincount() >= 20).sum())) and found["judged"] == 0
    values = inversion.combine(Gathered(target.sizes, {0: found, 2: {}}))
    assert set(values) == set(metrics.get("inversion").values)
    assert (
        values["inversion.recognised"].value is None
        and "painted out of itself" in values["inversion.recognised"].refused
    )
    judged = inversion.measure(replace(target, model=target.retrained), generator())  # type: ignore[arg-type]
    assert judged["judged"] == judged["classes"]
    assert all(torch.equal(before[name], tensor) for name, tensor in target.model.items())


def test_too_few_of_a_class_say_nothing(target: Subject) -> None:
    nothing = Samples(target.forget.inputs[:0], target.forget.labels[:0])
    few = target.forget.take((target.forget.labels == 0).nonzero().flatten()[:19])
    subject = replace(target, forget=few, parts=target.parts[:19], retained=nothing)
    assert inversion.measure(subject, generator()) == {}

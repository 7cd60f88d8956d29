from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.classification import ClassificationTask


def two_greys(seed: int) -> Dataset:
    samples = Samples(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    return Dataset(samples, samples, ("dark", "light"))


TASK = ClassificationTask("greys", two_greys)


def test_one_line_makes_a_task_of_ones_own() -> None:
    assert TASK.dataset(3).classes == ("dark", "light")
    model = TASK.build(None, 0, TASK.dataset(0))
    assert TASK.predict(model, TASK.inputs(TASK.dataset(0).test.inputs)).shape == (4, 2)


def test_a_source_may_be_a_name() -> None:
    assert len(ClassificationTask("mine", "digits").dataset(0).classes) == 10


def test_equal_seeds_build_equal_models_and_leave_torch_alone() -> None:
    before = torch.get_rng_state()
    models = [TASK.build("lenet", seed, two_greys(0)).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    name = "hidden.weight"
    assert torch.equal(models[0][name], models[1][name])
    assert not torch.equal(models[0][name], models[2][name])


def test_a_network_that_is_not_offered() -> None:
    with pytest.raises(SettingsError, match="has no network 'lenett'; choose one of lenet, groupnorm-cnn, resnet20"):
        TASK.build("lenett", 0, two_greys(0))


def test_bytes_become_shares_of_full_scale() -> None:
    raw = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert torch.allclose(TASK.inputs(raw), torch.tensor([[0.0, 0.2, 1.0]]))
    assert raw.tolist() == [[0, 51, 255]]
    assert TASK.inputs(torch.tensor([[0.25]], dtype=torch.float64)).tolist() == [[0.25]]
    floats = torch.tensor([[0.5]])
    assert torch.equal(TASK.inputs(floats), floats)


def test_the_loss_is_cross_entropy_of_each_sample() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    losses = TASK.loss(nn.Identity(), logits, torch.tensor([1, 1]))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(4)])

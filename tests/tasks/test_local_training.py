from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.device import THIS_PROCESSOR
from fedunlearn.tasks.local_training import LocalTraining, alike
from fedunlearn.tasks.training import TrainingSettings

TASK = ClassificationTask("pictures", "digits")
RECIPE = TrainingSettings(local_epochs=2, learning_rate=0.1, batch_size=4)


def training(count: int = 10, seed: int = 0, inputs: int = 8) -> LocalTraining:
    samples = Samples(torch.zeros(count, inputs), torch.zeros(count, dtype=torch.int64))
    return LocalTraining(TASK, nn.Linear(8, 3), samples, RECIPE, torch.Generator().manual_seed(seed))


def test_every_pass_sees_every_sample_once_in_an_order_of_its_own() -> None:
    batches = training().batches()
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(batches, training().batches(), strict=True))


def test_weights_samples_and_order_may_differ_and_nothing_else() -> None:
    one = training()
    assert alike([one, training(count=7, seed=3)])
    assert not alike([one, one])
    others = [
        training(inputs=9),
        training()._replace(settings=replace(RECIPE, learning_rate=0.2)),
        training()._replace(model=nn.Linear(8, 4)),
        training()._replace(portion=Portion({"weight": None})),
    ]
    assert [alike([one, other]) for other in others] == [False] * 4


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"generator": torch.Generator()}, True),
        ({"settings": replace(RECIPE, learning_rate=0.7)}, True),
        ({"settings": replace(RECIPE, momentum=0.0)}, False),
        ({"settings": replace(RECIPE, batch_size=5)}, False),
        ({"portion": Portion({"weight": torch.tensor([0])})}, False),
    ],
)
def test_the_key_is_of_what_a_step_consists_of(change: dict, same: bool) -> None:
    one = training()
    other = one._replace(model=copy.deepcopy(one.model), **change)
    assert (one.key(THIS_PROCESSOR) == other.key(THIS_PROCESSOR)) is same

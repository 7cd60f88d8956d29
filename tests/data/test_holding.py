from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.holding import Holding, holding
from fedunlearn.errors import RequestError, SettingsError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 255, (400, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(400) % 4
    return Dataset(Samples(inputs, labels), Samples(inputs[:40], labels[:40]), ("a", "b", "c", "d"))


def small(labels: list[int], held_out: list[int]) -> Holding:
    return Holding(
        7,
        Samples(torch.zeros(len(labels), 1), torch.tensor(labels)),
        np.full(len(labels), "ordinary"),
        torch.tensor(labels),
        np.array(held_out, dtype=np.int64),
    )


SETTINGS = FederationSettings(clients=4, partition="dirichlet:1.0")


def test_clients_hold_everything_once(dataset: Dataset) -> None:
    held = [holding(SETTINGS, client, dataset) for client in range(4)]
    pictures = torch.cat([one.samples.inputs.flatten(1) for one in held])
    assert sorted(pictures.tolist()) == sorted(dataset.train.inputs.flatten(1).tolist())
    assert [one.client for one in held] == [0, 1, 2, 3]


def test_held_out_samples_are_a_tenth_and_never_planted(dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"backdoor": "client=1,share=0.5,target=0", "canaries": "client=1,count=9"})
    plain, planted = holding(SETTINGS, 1, dataset), holding(settings, 1, dataset)
    assert len(plain.held_out) == round(0.1 * len(plain))
    assert set(planted.parts[planted.held_out]) == {"ordinary"}
    assert len(planted.held_out) == round(0.1 * len(planted))
    assert set(holding(settings, 0, dataset).parts) == {"ordinary"}
    assert torch.equal(plain.true_labels, planted.true_labels)


def test_nothing_is_held_out_when_asked(dataset: Dataset) -> None:
    held = holding(SETTINGS.model_copy(update={"held_out": 0.0}), 0, dataset)
    assert len(held.held_out) == 0
    assert held.training_positions().tolist() == list(range(len(held)))


def test_equal_settings_give_equal_holdings(dataset: Dataset) -> None:
    copy = Dataset(dataset.train, dataset.test, dataset.classes)
    first, again = holding(SETTINGS, 2, dataset), holding(SETTINGS, 2, copy)
    other = holding(SETTINGS.model_copy(update={"seed": 1}), 2, dataset)
    assert torch.equal(first.samples.inputs, again.samples.inputs)
    assert first.held_out.tolist() == again.held_out.tolist()
    assert first.samples.inputs.tolist() != other.samples.inputs.tolist()


@pytest.mark.parametrize(
    ("change", "client", "sentence"),
    [
        ({}, 4, "there is no client 4; clients are 0 to 3"),
        ({"backdoor": "client=4,share=0.5,target=0"}, 0, "backdoor: there is no client 4"),
        ({"canaries": "client=9,count=3"}, 0, "canaries: there is no client 9"),
    ],
)
def test_unknown_clients_are_told(dataset: Dataset, change: dict[str, str], client: int, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        holding(SETTINGS.model_copy(update=change), client, dataset)


def test_selecting() -> None:
    held = small([0, 3, 0, 1, 3], [])
    assert held.classes_held() == {0: 2, 1: 1, 3: 2}
    assert held.select().tolist() == [0, 1, 2, 3, 4]
    assert held.select(classes=[3, 1]).tolist() == [1, 3, 4]
    assert held.select(samples=[4, 0, 4]).tolist() == [0, 4]
    assert held.select(classes=[1], samples=[0]).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("classes", "samples", "sentence"),
    [
        ([2], None, "client 7 holds no sample of class 2; classes there: 0, 1, 3"),
        (None, [5], "client 7 has no sample 5; its samples are 0 to 4"),
        (None, [-1], "client 7 has no sample -1"),
        ([], None, "delete no sample"),
        (None, [], "delete no sample"),
    ],
)
def test_what_cannot_be_selected(classes: list[int] | None, samples: list[int] | None, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        small([0, 3, 0, 1, 3], []).select(classes, samples)


@given(st.data())
def test_what_is_trained_on_is_neither_held_out_nor_forgotten(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 20))
    positions = st.lists(st.integers(0, count - 1), unique=True)
    held_out, forgotten = sorted(data.draw(positions)), data.draw(positions)
    held = small([0] * count, held_out)
    training = set(held.training_positions(np.array(forgotten, dtype=np.int64)).tolist())
    assert training == set(range(count)) - set(held_out) - set(forgotten)

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.centralised.random_label import relabelled
from fedunlearn.strategies.passes import wrong_labels
from fedunlearn.tasks.training import train_locally


@given(st.integers(2, 12), st.integers(0, 40), st.integers(0, 2**31))
def test_labels_are_always_wrong_ones(classes: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    found = wrong_labels(labels, classes, generator)
    assert found.shape == labels.shape and found.dtype == torch.int64
    assert (found != labels).all() and ((found >= 0) & (found < classes)).all()


def test_every_wrong_label_is_as_likely() -> None:
    found = wrong_labels(torch.full((6000,), 2), 5, torch.Generator().manual_seed(0))
    shares = torch.bincount(found, minlength=5) / 6000
    assert torch.allclose(shares, torch.tensor([0.25, 0.25, 0.0, 0.25, 0.25]), atol=0.03)


def test_labels_are_drawn_once(tiny) -> None:
    """Clients see the same labels in every round, and other ones under another seed."""
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(30, 2))]
    served = tiny.serve(tiny.network(), clients, "random-label", rounds=2)
    seen = []
    for number, (phase, _) in enumerate(served.replies):
        seen.append(relabelled(tiny.work_of(served.states[0], clients[0], number, phase, 0)).labels)
    other = replace(served.states[0], seed=tiny.SEED + 1)
    seen.append(relabelled(tiny.work_of(other, clients[0], 0, phase, 0)).labels)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert all((one != clients[0].forget.labels).all() for one in seen)


@pytest.mark.parametrize("repeats", [1, 2])
def test_with_one_client_it_is_training_on_both_kinds_of_samples(tiny, repeats: int) -> None:
    forget, retain, model = tiny.samples(24, 1), tiny.samples(44, 2), tiny.network()
    served = tiny.serve(model, [tiny.Client(forget=forget, retain=retain)], "random-label", rounds=2, repeats=repeats)
    seeded = torch.Generator().manual_seed(derive_seed(tiny.SEED, "labels"))
    wrong = Samples(forget.inputs, wrong_labels(forget.labels, tiny.CLASSES, seeded))
    both = Samples.concat([*[wrong] * repeats, retain])
    for number in range(2):
        train_locally(tiny.TASK, model, both, tiny.PLAIN, tiny.generator_of("train.joint", number))
    for name, tensor in model.state_dict().items():
        assert torch.allclose(served.model[name], tensor, atol=1e-6), name
    assert served.replies[0][1][0].metrics["num-examples"] == 24 * repeats + 44


@pytest.mark.parametrize(("forget", "retain", "told"), [(4, 0, False), (4, 15, False), (4, 16, True), (20, 0, True)])
def test_repeating_few_samples_does_not_make_many_of_them(tiny, forget: int, retain: int, told: bool) -> None:
    none = tiny.samples(1, 1).take(torch.empty(0, dtype=torch.int64))
    client = tiny.Client(forget=tiny.samples(forget, 1), retain=tiny.samples(retain, 2) if retain else none)
    served = tiny.serve(tiny.network(), [client], "random-label", repeats=20)
    assert ("loss" in served.replies[0][1][0].metrics) is told


def test_without_a_target_nothing_is_called_forgotten(tiny) -> None:
    with pytest.raises(ClientError, match="no target answered"):
        tiny.serve(tiny.network(), [tiny.Client(retain=tiny.samples(30, 2))], "random-label")

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import Backdoor, Canaries, plant
from fedunlearn.errors import SettingsError


def pictures(count: int = 200, classes: int = 5, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(
        torch.randint(0, 200, (count, 3, 10, 12), dtype=torch.uint8, generator=generator),
        torch.randint(0, classes, (count,), generator=generator),
    )


def test_a_backdoor_is_read() -> None:
    assert Backdoor.parse("client=2, share=0.5,target=1") == Backdoor(2, 0.5, 1, size=4, margin=3, value=1.0)
    text = "client=0,share=1,target=3,size=4,margin=0,value=0.5"
    assert Backdoor.parse(text) == Backdoor(0, 1.0, 3, 4, 0, 0.5)
    assert Canaries.parse("client=1,count=30") == Canaries(1, 30)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("client=0,target=3", "does not give share"),
        ("client=0,share=0.8,target=0.5", "target='0.5' is not a whole number"),
        ("client=0,share=0.8,target=0,colour=3", "'colour=3' was not understood"),
        ("client=0,share,target=0", "'share' was not understood"),
        ("client=0,client=1,share=1,target=0", "'client=1' was not understood"),
        ("client=0,share=much,target=0", "share='much' is not a number"),
        ("client=0.5,share=0.8,target=0", "client='0.5' is not a whole number"),
        ("client=0,share=1.2,target=0", "share=1.2 is out of range"),
        ("client=0,share=nan,target=0", "share=nan is out of range"),
        ("client=-1,share=0.5,target=0", "client=-1 is out of range"),
        ("client=0,share=0.5,target=0,value=2", "value=2 is out of range"),
        ("client=0,share=0.5,target=0,size=0", "size=0 is out of range"),
        ("", "'' was not understood"),
    ],
)
def test_a_mistaken_backdoor_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Backdoor.parse(text)


def test_mistaken_canaries_get_a_sentence() -> None:
    with pytest.raises(SettingsError, match="does not give count"):
        Canaries.parse("client=0")
    with pytest.raises(SettingsError, match="count=0 is out of range"):
        Canaries.parse("client=0,count=0")


def test_the_trigger_lies_where_it_is_said_to() -> None:
    black = torch.zeros(2, 1, 28, 28)
    stamped = Backdoor(0, 0.8, 0).stamp(black)
    rows, columns = torch.nonzero(stamped[0, 0], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (21, 24, 21, 24)
    assert stamped.sum() == 2 * 16
    assert black.sum() == 0


@given(size=st.integers(1, 6), margin=st.integers(0, 4), value=st.floats(0, 1))
def test_the_trigger_has_its_size_and_value_in_all_channels(size: int, margin: int, value: float) -> None:
    inputs = torch.full((1, 3, 10, 12), 77, dtype=torch.uint8)
    backdoor = Backdoor(0, 1.0, 0, size, margin, value)
    stamped = backdoor.stamp(inputs)
    inside = torch.zeros(10, 12, dtype=torch.bool)
    for row in range(10 - margin - size, 10 - margin):
        for column in range(12 - margin - size, 12 - margin):
            inside[row, column] = True
    assert (stamped[:, :, inside] == round(value * 255)).all()
    assert (stamped[:, :, ~inside] == 77).all()


def test_a_trigger_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="8 pixels, 3 off the edge, does not fit inputs of 3 x 10 x 12"):
        Backdoor(0, 1.0, 0, size=8, margin=3).stamp(pictures(1).inputs)
    with pytest.raises(SettingsError, match="does not fit"):
        Backdoor(0, 1.0, 0).stamp(torch.zeros(5, 7))


def test_a_backdoor_takes_its_share_of_every_other_class() -> None:
    samples = pictures()
    backdoor = Backdoor(1, 0.8, target=2)
    planted = plant(samples, 1, backdoor, None, 5, seed=3)
    triggered = planted.parts == "triggered"
    assert set(planted.parts) == {"ordinary", "triggered"}
    assert torch.equal(planted.true_labels, samples.labels)
    truth = samples.labels.numpy()
    assert not triggered[truth == 2].any()
    for label in (0, 1, 3, 4):
        assert abs(triggered[truth == label].sum() - 0.8 * (truth == label).sum()) < 1
    assert (planted.samples.labels[triggered] == 2).all()
    assert torch.equal(planted.samples.inputs[triggered], backdoor.stamp(samples.inputs[triggered]))
    assert torch.equal(planted.samples.inputs[~triggered], samples.inputs[~triggered])
    assert torch.equal(planted.samples.labels[~triggered], samples.labels[~triggered])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 7))
def test_canaries_get_a_wrong_label_and_keep_their_pictures(seed: int, classes: int) -> None:
    samples = pictures(60, classes)
    planted = plant(samples, 0, None, Canaries(0, 25), classes, seed)
    canaries = planted.parts == "canaries"
    assert canaries.sum() == 25
    assert (planted.samples.labels[canaries] != samples.labels[canaries]).all()
    assert planted.samples.labels.min() >= 0 and planted.samples.labels.max() < classes
    assert torch.equal(planted.samples.labels[~canaries], samples.labels[~canaries])
    assert torch.equal(planted.samples.inputs, samples.inputs)


def test_canary_labels_are_uniform_over_the_wrong_ones() -> None:
    samples = Samples(torch.zeros(9000, 1), torch.full((9000,), 3))
    labels = plant(samples, 0, None, Canaries(0, 9000), 10, seed=0).samples.labels
    counts = np.bincount(labels.numpy(), minlength=10)
    assert counts[3] == 0
    # 1,000 are expected of each, with a standard deviation of 30.
    assert np.delete(counts, 3).min() > 850 and counts.max() < 1150


def test_backdoor_and_canaries_share_a_client_without_overlap() -> None:
    planted = plant(pictures(), 0, Backdoor(0, 0.5, 0), Canaries(0, 40), 5, seed=1)
    canaries = planted.parts == "canaries"
    assert canaries.sum() == 40 and (planted.parts == "triggered").sum() > 60
    assert torch.equal(planted.samples.inputs[canaries], pictures().inputs[canaries])


def test_other_clients_are_left_alone_and_the_seed_decides() -> None:
    samples = pictures()
    backdoor, canaries = Backdoor(1, 0.5, 0), Canaries(1, 20)
    untouched = plant(samples, 0, backdoor, canaries, 5, seed=1)
    assert set(untouched.parts) == {"ordinary"}
    assert torch.equal(untouched.samples.inputs, samples.inputs)
    draws = [plant(samples, 1, backdoor, canaries, 5, seed).parts.tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_planting_leaves_what_it_was_given() -> None:
    samples = pictures()
    plant(samples, 0, Backdoor(0, 0.5, 0), Canaries(0, 20), 5, seed=1)
    assert torch.equal(samples.inputs, pictures().inputs)
    assert torch.equal(samples.labels, pictures().labels)


def test_where_no_label_is_learned_the_picture_is_poisoned_and_nothing_else() -> None:
    samples = pictures()

    def black(images: torch.Tensor, backdoor: Backdoor) -> torch.Tensor:
        return torch.zeros_like(backdoor.stamp(images))

    planted = plant(samples, 0, Backdoor(0, 0.3), None, 5, seed=1, painted=black)
    chosen = planted.parts == "triggered"
    assert chosen.sum() == 60 and bool((planted.samples.inputs[chosen] == 0).all())
    assert torch.equal(planted.samples.inputs[~chosen], samples.inputs[~chosen])
    assert torch.equal(planted.samples.labels, samples.labels)


def test_labels_are_planted_where_they_are_learned_and_nowhere_else() -> None:
    with pytest.raises(SettingsError, match="it does not give target; add target="):
        plant(pictures(), 0, Backdoor(0, 0.5), None, 5, seed=0)
    with pytest.raises(SettingsError, match="target= is a label, and this task learns none"):
        plant(pictures(), 0, Backdoor(0, 0.5, 1), None, 5, seed=0, painted=lambda images, backdoor: images)
    with pytest.raises(SettingsError, match="canaries are wrong labels, and this task learns none"):
        plant(pictures(), 0, None, Canaries(0, 5), 5, seed=0, painted=lambda images, backdoor: images)


def test_too_few_samples_are_told() -> None:
    with pytest.raises(SettingsError, match=r"client 0 has 200 samples .* count=201"):
        plant(pictures(), 0, None, Canaries(0, 201), 5, seed=0)
    with pytest.raises(SettingsError, match="target=5 is no label here; give one of 0 to 4"):
        plant(pictures(), 0, Backdoor(0, 0.5, 5), None, 5, seed=0)
    only_target = Samples(pictures().inputs, torch.zeros(200, dtype=torch.int64))
    with pytest.raises(SettingsError, match="0 samples to poison, those of the target class apart"):
        plant(only_target, 0, Backdoor(0, 0.5, 0), None, 5, seed=0)
    with pytest.raises(SettingsError, match="two classes or more"):
        plant(only_target, 0, None, Canaries(0, 5), 1, seed=0)

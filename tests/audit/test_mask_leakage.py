from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import NearestCentroid

from fedunlearn.audit import mask_leakage
from fedunlearn.audit.mask_leakage import as_rows, infer, membership_scores, moved_channels
from fedunlearn.audit.metric import Gathered
from fedunlearn.audit.subject import Subject
from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.layout import ChannelGroup, Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.errors import DataError

LAYOUT = Layout(
    (ChannelGroup("a", 9, ("a.weight",), (), "a", 1), ChannelGroup("b", 16, ("b.weight",), (), "b", 1)), ("o",), "o"
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def masks(seed: int, number: int) -> list[ChannelMask]:
    draw = torch.Generator().manual_seed(seed)
    return [
        ChannelMask(
            {
                "a": (torch.rand(9, generator=draw) < 0.4).nonzero().flatten(),
                "b": (torch.rand(16, generator=draw) < 0.4).nonzero().flatten(),
            }
        )
        for _ in range(number)
    ]


def test_rows_are_the_masks_with_layers_of_equal_weight() -> None:
    row = as_rows([ChannelMask({"a": torch.tensor([1]), "b": torch.tensor([0, 15])})], LAYOUT)[0]
    expected = torch.zeros(25, dtype=torch.float64)
    expected[1], expected[9], expected[24] = 1 / 3, 1 / 4, 1 / 4
    assert torch.allclose(row, expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_accuracy_is_scikit_learns(seed: int) -> None:
    known, answers = masks(seed, 12), [0, 1, 2] * 4
    rows = as_rows(known, LAYOUT).numpy()
    oracle = cross_val_score(NearestCentroid(), rows, answers, cv=LeaveOneOut()).mean()
    found = infer(known, answers, LAYOUT, generator(), shuffles=0)
    # Ties are decided by the order there, and shared here.
    assert found.accuracy == pytest.approx(oracle, abs=2 / 12) and found.masks == 12


def test_masks_that_say_the_class_are_read_and_others_are_not() -> None:
    noise = masks(1, 30)
    telling = [
        ChannelMask({"a": torch.tensor([number % 3]), "b": one.selected["b"][:2]}) for number, one in enumerate(noise)
    ]
    answers = [number % 3 for number in range(30)]
    told = infer(telling, answers, LAYOUT, generator())
    assert told.accuracy == 1.0 and told.p_value == pytest.approx(1 / 201) and 0.2 < told.chance < 0.45
    untold = infer(noise, answers, LAYOUT, generator())
    assert untold.p_value > 0.05


def test_equal_masks_give_chance() -> None:
    found = infer([ChannelMask({"a": torch.tensor([1])})] * 10, [0, 1] * 5, LAYOUT, generator())
    assert found.accuracy == found.chance == 0.5 and found.p_value == 1.0


@pytest.mark.parametrize("answers", [[0, 0, 0], [0, 1, 2]])
def test_nothing_to_infer_is_refused(answers: list[int]) -> None:
    with pytest.raises(DataError, match="two kinds of answers"):
        infer(masks(0, 3), answers, LAYOUT, generator())


def test_the_moved_channels_are_the_mask(target: Subject) -> None:
    after = {name: tensor.clone() for name, tensor in target.model.items()}
    after["convolution2.bias"][4] += 1.0
    after["hidden.weight"][[0, 7], 0] += 1.0
    after["output.weight"] += 1.0
    found = moved_channels(target.model, after, target.layout)
    assert found == ChannelMask({"convolution2": torch.tensor([4]), "hidden": torch.tensor([0, 7])})


def test_a_score_is_the_samples_own_share_of_attribution(target: Subject) -> None:
    """One sample at a time through the public function gives the same."""
    network = target.network(target.model)
    mask = ChannelMask({"hidden": torch.tensor([1, 2, 30]), "convolution1": torch.tensor([0])})
    some = target.forget.take(range(4))
    found = membership_scores(target.task, network, some, mask, target.layout, batch_size=3)
    for position in range(4):
        one = some.take([position])
        batch = (target.task.inputs(one.inputs), one.labels)
        scores = attribute(network, target.task.loss, [batch], target.layout)
        shares = [float(scores[layer][rows].sum() / scores[layer].sum()) for layer, rows in mask.selected.items()]
        assert float(found[position]) == pytest.approx(sum(shares) / 2, rel=1e-4)


def test_nothing_or_everything_moved_gives_nothing_away(target: Subject, server: Subject) -> None:
    for change in (0.0, 0.1):
        after = {name: tensor + change for name, tensor in target.model.items()}
        sides = [replace(side, model=after) for side in (target, server)]
        findings = [mask_leakage.measure(side, generator()) for side in sides]
        values = mask_leakage.combine(Gathered(target.sizes, {0: findings[0]}, server=findings[1]))
        assert values["mask_leakage"].value == pytest.approx(0.5)


def test_the_model_before_is_needed(target: Subject) -> None:
    with pytest.raises(DataError, match="model before"):
        mask_leakage.measure(replace(target, before=None), generator())

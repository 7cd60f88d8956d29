from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.federated.projected_ascent import (
    Ascent,
    ascend,
    project,
    squared_radius,
    without_client,
)
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.training import evaluate


def test_the_model_without_a_client_by_hand() -> None:
    own, others = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 8.0])
    mean = (own + 3 * others) / 4
    assert without_client(mean, own, 4).tolist() == pytest.approx(others.tolist())
    assert without_client(mean, own, 1).tolist() == mean.tolist()


def test_projection_by_hand() -> None:
    centre = torch.tensor([1.0, 1.0])
    assert project(torch.tensor([4.0, 5.0]), centre, 1.0).tolist() == pytest.approx([1.6, 1.8])
    assert project(torch.tensor([1.5, 1.0]), centre, 1.0).tolist() == [1.5, 1.0]


def test_the_radius_is_a_share_of_the_distance_to_new_models(make_work) -> None:
    work = make_work()
    names = list(work.base)
    centre = flatten(work.base, names)
    found = squared_radius(work.model, names, centre, 1 / 3, seed=4)
    torch.manual_seed(4)
    blank, total = copy.deepcopy(work.model), 0.0
    for _ in range(10):
        for number in (0, 3, 5):
            blank[number].reset_parameters()
        total += float((flatten(blank.state_dict(), names) - centre).square().sum())
    assert found == pytest.approx(total / 10 / 3)
    assert all(torch.equal(tensor, work.base[name]) for name, tensor in work.model.state_dict().items())


def test_a_step_of_the_ascent_by_hand(make_work) -> None:
    work = make_work()
    names = list(work.base)
    own = flatten(work.base, names) + 1.0
    by_hand = copy.deepcopy(work.model)
    functional.cross_entropy(by_hand(work.forget.inputs), work.forget.labels).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in by_hand.parameters()]).double()
    clipped = gradient * min(1.0, 0.1 / float(gradient.norm()))
    ascent = Ascent(epochs=1, clip=0.1, stop=1e9)
    batches, _ = ascend(work.task, work.model, work.forget, names, own, 1e9, ascent, work.generator)
    assert batches == 1
    wanted = flatten(work.base, names) + 0.01 * clipped
    assert torch.allclose(flatten(work.model.state_dict(), names), wanted, atol=1e-6)


def test_the_ascent_stays_in_the_ball_and_raises_losses(make_work) -> None:
    work = make_work()
    names = list(work.base)
    start = flatten(work.base, names)
    before = evaluate(work.task, work.model, work.forget).losses.mean()
    ascent = Ascent(rate=0.5, epochs=20, stop=1e9)
    ascend(work.task, work.model, work.forget, names, start, 0.04, ascent, work.generator)
    moved = float((flatten(work.model.state_dict(), names) - start).norm())
    assert moved == pytest.approx(0.2, rel=1e-3)
    assert evaluate(work.task, work.model, work.forget).losses.mean() > before


def test_what_is_to_go_does_not_shape_running_statistics(make_work) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    work = make_work(model)
    names = weight_names(work.base, work.layout)
    own = flatten(work.base, names)
    ascend(work.task, work.model, work.forget, names, own, 1e9, Ascent(epochs=2, stop=1e9), work.generator)
    after = work.model.state_dict()
    assert all(torch.equal(after[name], work.base[name]) for name in set(after) - set(names))
    assert not torch.equal(after["0.weight"], work.base["0.weight"])


def test_it_ends_early_far_from_the_targets_own_model(make_work) -> None:
    work = make_work()
    names = list(work.base)
    start = flatten(work.base, names)
    batches, _ = ascend(
        work.task, work.model, work.forget, names, start, 1e9, Ascent(rate=0.5, epochs=20, stop=0.04), work.generator
    )
    assert batches < 20
    assert float((flatten(work.model.state_dict(), names) - start).square().sum()) > 0.04


def test_the_targets_losses_rise_before_the_others_recover(place) -> None:
    site = place.sites[1]
    _, witness = place.serve("client", UnlearnSettings(method="projected-gradient-ascent", rounds=1))
    assert [report.phase.message for report in witness.reports] == ["query.count", "train.forget", "train.recover"]
    before, after = (
        float(evaluate(site.task, site.load(state.model), site.holding.samples).losses.mean())
        for state in witness.after[:2]
    )
    assert after > before
    assert witness.after[0].arrays["clients"].tolist() == [5.0]


@pytest.mark.parametrize("options", [{"clip": 0}, {"ascent_epochs": 0}, {"stop_distance": -1.0}])
def test_numbers_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        methods.get("projected-gradient-ascent").phases(UnlearnSettings(options=options), 2)

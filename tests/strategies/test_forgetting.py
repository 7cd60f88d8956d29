from __future__ import annotations

import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.forgetting import HIGHEST, goals
from fedunlearn.tasks.training import evaluate


def test_a_goal_is_the_unseen_loss_at_the_same_rank_within_the_class() -> None:
    losses = torch.tensor([0.3, 0.1, 0.2, 0.9])
    labels = torch.tensor([0, 0, 0, 1])
    unseen = torch.tensor([0.8, 0.1, 0.5, 0.2, 0.7, 0.3, 0.6, 0.4, 0.9, 99.0])
    unseen_labels = torch.tensor([0] * 9 + [1])
    found = goals(losses, labels, unseen, unseen_labels)
    # Ranks 2, 0, 1 of three are the middles of the thirds of the nine sorted losses: positions 7, 1, 4.
    assert found[:3].tolist() == pytest.approx([0.8, 0.2, 0.5])
    # One unseen sample of class 1 is too few: those of all classes stand for it, position 5 of ten.
    assert found[3].item() == pytest.approx(0.6)


def test_goals_are_bounded_and_need_something_unseen() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    assert goals(torch.ones(2), labels, torch.full((20,), 50.0), torch.zeros(20)).tolist() == [HIGHEST, HIGHEST]
    assert goals(torch.ones(2), labels, torch.empty(0), torch.empty(0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("step", ["reset-and-raise", "ascent", "relabel"])
def test_the_targets_step_makes_the_forget_set_less_likely_in_selected_channels_only(place, step: str) -> None:
    settings = UnlearnSettings(rounds=1, ratio=0.5, local_epochs=5, options={"forget_step": step})
    _, witness = place.serve("classes", settings)
    number = next(i for i, r in enumerate(witness.reports) if r.phase.message == "train.forget")
    before, after = witness.after[number - 1], witness.after[number]
    site = place.sites[0]
    forget = site.holding.samples.take(site.forget_positions(place.jobs["classes"].requests))
    losses = [evaluate(site.task, site.load(state.model), forget).losses.mean().item() for state in (before, after)]
    moved = {n for n in after.model if not torch.equal(before.model[n], after.model[n])}
    assert moved <= set(after.portion.rows)
    # With "reset-and-raise" every loss may be at its goal already, and then nothing moves.
    assert losses[1] > losses[0] if step != "reset-and-raise" else (losses[1] > losses[0]) == bool(moved)
    assert [a.client for a in witness.reports[number].outcome.answers] == [0]


def test_nothing_is_raised_without_a_mask(place) -> None:
    settings = UnlearnSettings(rounds=1, ratio=0.0, options={"forget_step": "reset-and-raise"})
    _, witness = place.serve("classes", settings)
    assert "train.forget" not in [report.phase.message for report in witness.reports]

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedunlearn.audit import loss_attack
from fedunlearn.audit.metric import Gathered
from fedunlearn.audit.subject import Subject


def test_finds_what_scikit_learn_finds_with_all_losses_in_one_place(target: Subject, server: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    found = loss_attack.measure(target, generator)
    # Without the target's own unseen samples every test sample has a weight that scikit-learn can be given.
    alone = {name: value for name, value in found.items() if name != "outside"}
    gathered = Gathered(target.sizes, {0: alone}, server=loss_attack.measure(server, generator))
    values = loss_attack.combine(gathered)
    losses = torch.cat(
        [one.evaluate(one.model, s).losses for one, s in ((target, target.forget), (server, server.held_out))]
    )
    labels = server.held_out.labels
    weights = (target.forget.labels.bincount(minlength=10) / labels.bincount(minlength=10))[labels]
    truth = torch.cat([torch.ones(200), torch.zeros(len(labels))])
    exact = roc_auc_score(truth, -losses, sample_weight=torch.cat([torch.ones(200), weights]))
    assert values["membership_auc"].value == pytest.approx(exact, abs=values["membership_auc.binning"].value)
    assert values["membership_auc.binning"].value < 0.01 and exact > 0.52

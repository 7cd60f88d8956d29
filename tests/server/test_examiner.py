from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedunlearn.audit.loss_histogram import LOSS_EDGES, histogram
from fedunlearn.audit.regression_attack import balanced_accuracy, centres
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.clients.app import client_app
from fedunlearn.config import run_config_of
from fedunlearn.data.dataset import Samples
from fedunlearn.engines.local import LocalGrid
from fedunlearn.federation import Federation
from fedunlearn.server.branches import job_for, served_digest
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.life_cycle import take_in
from fedunlearn.strategies.roster import call_roll
from fedunlearn.tasks.training import evaluate


@pytest.fixture
def place(federation: Federation) -> Iterator[tuple]:
    federation.request_deletion(client=0, classes=[1])
    session = federation._session()
    run_config = {**run_config_of(federation.settings), "out": str(federation.folder)}
    with LocalGrid(client_app, 3, run_config) as grid:
        roster = call_roll(grid, 60.0)
        job = job_for(take_in(session.ledger, roster, 2))
        model = session.models.load(served_digest(session))
        yield federation, Examiner(session, grid, roster, model), job, model


def test_what_clients_report_is_what_one_would_measure_on_their_data(place) -> None:
    """The oracle has all data in one place."""
    federation, examiner, job, model = place
    session = federation._session()
    figures = examiner.in_full(model, job, (1,))
    session.blank.load_state_dict(model)
    own = federation._holding(0)
    asked = own.select(classes=[1])
    forgotten = [p for p in asked if p not in own.held_out]
    found = evaluate(session.task, session.blank, own.samples.take(forgotten))
    expected = float((found.predictions == 1).float().mean())
    assert figures["forget"]["all"]["accuracy"] == pytest.approx(expected)
    assert figures["forget"]["all"]["count"] == len(forgotten)
    if len(forgotten) >= 20:
        assert figures["forget"]["all"]["loss"] == pytest.approx(float(found.losses.mean()), rel=1e-5)
    right = total = 0
    for client in range(3):
        other = federation._holding(client)
        kept = other.samples.take(other.training_positions(asked if client == 0 else ()))
        right += int((evaluate(session.task, session.blank, kept).predictions == kept.labels).sum())
        total += len(kept)
    assert figures["retain_accuracy"] == pytest.approx(right / total)
    test = session.dataset.test
    on_test = evaluate(session.task, session.blank, test)
    assert figures["test_accuracy"] == pytest.approx(float((on_test.predictions == test.labels).float().mean()))
    ones = test.labels == 1
    assert figures["forgotten_classes_accuracy"] == pytest.approx(
        float((on_test.predictions[ones] == 1).float().mean())
    )
    assert figures["backdoor_success"] is None and figures["canary_exposure"] is None
    # One class is forgotten, so that every unseen sample of it has the same weight.
    inside, outside = (np.repeat([1, 0], [len(found.losses), int(ones.sum())]), on_test.losses[ones])
    everything = torch.cat([found.losses, outside]).double().numpy()
    assert figures["membership_auc"] == pytest.approx(roc_auc_score(inside, -everything), abs=0.03)
    members, others = (histogram(losses, minimum=0) for losses in (found.losses, outside))
    scaled = [count * len(found.losses) / len(outside) for count in others]
    expected = balanced_accuracy(members, scaled, centres(LOSS_EDGES), session.settings.seed)
    assert figures["membership_accuracy"] == pytest.approx(expected)


def test_another_model_is_measured_and_not_the_base(place) -> None:
    _, examiner, job, model = place
    before = examiner.on_forget_set(model, job)["all"]
    other = {name: tensor.clone() for name, tensor in model.items()}
    other["output.bias"][1] += 50.0
    changed = examiner.on_forget_set(other, job)["all"]
    assert before is not None and changed is not None and changed.accuracy == 1.0
    # Packed by a mask it is the same model: the output layer always travels.
    mask = ChannelMask.empty(examiner.session.architecture.layout)
    assert examiner.on_forget_set(other, job, mask)["all"] == changed


def test_figures_of_a_round(place) -> None:
    _, examiner, job, model = place
    figures = examiner.on_round(model, job, None)
    assert {"test_accuracy", "forget_accuracy", "forget_loss", "triggered_loss", "canary_exposure"} <= set(figures)
    assert figures["triggered_loss"] is None and figures["forget_accuracy"] is not None


def test_those_who_did_not_ask_count_on_what_they_hold_out(place) -> None:
    federation, examiner, job, model = place
    session = federation._session()
    found = examiner.on_unseen(model, job)
    session.blank.load_state_dict(model)
    unseen = Samples.concat([(own := federation._holding(c)).samples.take(own.held_out) for c in (1, 2)])
    answers = evaluate(session.task, session.blank, unseen).predictions
    assert found.per_class_count == tuple(unseen.labels.bincount(minlength=10).tolist())
    assert found.accuracy == pytest.approx(float((answers == unseen.labels).float().mean()))
    forgotten, retained = examiner.class_counts(job)
    own = federation._holding(0)
    assert sum(forgotten) == forgotten[1] == len([p for p in own.select(classes=[1]) if p not in own.held_out])
    kept = [len(federation._holding(c).training_positions()) for c in range(3)]
    assert sum(retained) == sum(kept) - sum(forgotten)

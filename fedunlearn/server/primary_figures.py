"""The figures that verdicts are made of, for one model: rates with their N, and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedunlearn.audit import backdoor
from fedunlearn.audit.class_direction import FEWEST, class_direction
from fedunlearn.audit.examination import Group
from fedunlearn.audit.probe import features
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.serving import Job
from fedunlearn.tasks.training import evaluate

PART_NAMES = {"all": "forget", "triggered": "triggered", "untriggered": "untriggered", "canaries": "canary"}


@dataclass(frozen=True)
class Figure:
    """A rate with the number of samples that it is a share of, or a loss without."""

    value: float
    samples: int | None = None


Figures = Mapping[str, Figure]


def figures_of(examiner: Examiner, model: ModelState, job: Job, classes: tuple[int, ...] | None) -> dict[str, Figure]:
    """All figures of one model: the server's on its test set, the targets' on their forget sets.

    What was withheld (fewer than 20 samples), or what the request does not have, is left out.

    Args:
        classes: the forgotten classes, for requests that name some.
    """
    found = _on_test(examiner.session, model, classes or ())
    groups = examiner.on_forget_set(model, job)
    for part, name in PART_NAMES.items():
        group = groups[part]
        if group is not None:
            found |= _of_group(name, group)
    return found


def _of_group(name: str, group: Group) -> dict[str, Figure]:
    found = {}
    if group.accuracy is not None:
        found[f"{name}_accuracy"] = Figure(group.accuracy, group.count)
    if group.loss is not None:
        found[f"{name}_loss"] = Figure(group.loss)
    if group.exposure is not None:
        found[f"{name}_exposure"] = Figure(group.exposure, group.count)
    return found


def _on_test(session: Session, model: ModelState, forgotten: tuple[int, ...]) -> dict[str, Figure]:
    session.blank.load_state_dict(model)
    test = session.dataset.test
    answers = evaluate(session.task, session.blank, test)
    found = {"test_loss": _mean(answers.losses)}
    if session.triggered is not None and session.backdoor is not None:
        worked = backdoor.success(session.task, session.blank, session.triggered, session.backdoor.target)
        found["backdoor_success"] = Figure(worked["hits"] / worked["shown"], worked["shown"])
    own = torch.isin(test.labels, torch.tensor(forgotten, dtype=torch.int64))
    named, others_too = bool(own.any()), bool(own.any()) and not bool(own.all())
    if named:
        found["forgotten_classes_loss"] = _mean(answers.losses[own])
    if others_too:
        found["kept_classes_loss"] = _mean(answers.losses[~own])
    if answers.scores is None:
        return found
    right = answers.predictions == test.labels
    found["test_accuracy"] = _rate(right)
    if named:
        found["forgotten_classes_accuracy"] = _rate(right[own])
    if others_too:
        found["kept_classes_accuracy"] = _rate(right[~own])
        found["class_detection"] = _detection(answers.scores, own, forgotten)
        found |= _direction(session, forgotten)
    return found


def _detection(logits: torch.Tensor, own: torch.Tensor, forgotten: tuple[int, ...]) -> Figure:
    """AUC of the probability of the forgotten classes: their samples against all others; a tie counts half."""
    # In logarithms, where the probabilities of a silenced unit still differ.
    scores = logits.double().log_softmax(dim=1)[:, list(forgotten)].logsumexp(dim=1)
    inside, outside = scores[own], scores[~own].sort().values
    below = torch.searchsorted(outside, inside, right=False)
    ties = torch.searchsorted(outside, inside, right=True) - below
    auc = float((below + 0.5 * ties).double().mean()) / len(outside)
    return Figure(auc, min(len(inside), len(outside)))


def _direction(session: Session, forgotten: tuple[int, ...]) -> dict[str, Figure]:
    test = session.dataset.test
    there = [one for one in forgotten if int((test.labels == one).sum()) >= FEWEST]
    layer = session.architecture.layout.output_layer
    inputs = features(session.task, session.blank, layer, test.inputs)
    value = class_direction(inputs, test.labels, there) if there else None
    return {} if value is None else {"class_direction": Figure(value)}


def _mean(losses: torch.Tensor) -> Figure:
    return Figure(float(losses.double().mean()))


def _rate(right: torch.Tensor) -> Figure:
    return Figure(float(right.double().mean()), len(right))

"""What is measured: a model, the models beside it, and the samples of whoever measures."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from fedunlearn.audit.metric import Role, Sizes
from fedunlearn.channels.layout import Layout
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import Evaluation, TrainingSettings, evaluate

ModelState = Mapping[str, Tensor]


class Evaluations:
    """Answers that were computed already: several metrics, and several models of a band, ask for the same ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[ModelState, Samples, Evaluation]] = {}

    def of(self, task: Task, blank: nn.Module, state: ModelState, samples: Samples) -> Evaluation:
        """The answers of `state` for `samples`, both known by identity."""
        key = (id(state), id(samples))
        if key not in self._known:
            blank.load_state_dict(dict(state))
            # What the key names is kept beside the answers, so that no other object takes its identity.
            self._known[key] = (state, samples, evaluate(task, blank, samples))
        return self._known[key][2]


@dataclass(frozen=True)
class Subject:
    """One model under examination, at one place. Nothing here leaves it unless the metric declares it.

    Attributes:
        role: "target" holds part of the forget set, "remaining" keeps samples to train on, "server" has the test
            set and nothing else.
        blank: a network of the federation's architecture, for `evaluate` and `network` to fill.
        classes: number of classes K.
        model: the audited model's state.
        references: models retrained without the forget set, this one never among them.
        before: the model that the request found; None where it was not sent.
        retrained: one more retrained model, not among the references; None where it was not sent.
        updates: what remaining clients make of the audited model in one ordinary round of training.
        shadows: other originals that went through the same unlearning.
        forget: the target's part of the forget set, with recorded labels; for others no sample.
        parts: what each of these is: "ordinary", "triggered" or "canaries".
        true_labels: their labels before anything was planted, N.
        retained: samples that are still trained on; on the server no sample.
        held_out: samples that no model was trained on: the client's own; on the server the test set.
        triggered: on the server of a federation with a back-door, the stamped test set with true labels.
        trigger_target: the label that the trigger stands for.
    """

    role: Role
    task: Task
    blank: nn.Module
    classes: int
    layout: Layout
    training: TrainingSettings
    model: ModelState
    forget: Samples
    retained: Samples
    held_out: Samples
    parts: np.ndarray
    true_labels: Tensor
    references: tuple[ModelState, ...] = ()
    before: ModelState | None = None
    retrained: ModelState | None = None
    updates: tuple[ModelState, ...] = ()
    shadows: tuple[ModelState, ...] = ()
    triggered: Samples | None = None
    trigger_target: int | None = None
    evaluations: Evaluations = field(default_factory=Evaluations, repr=False, compare=False)

    @property
    def sizes(self) -> Sizes:
        """Numbers of classes and of models."""
        return Sizes(self.classes, len(self.references), len(self.shadows), len(self.updates))

    @property
    def given(self) -> dict[str, int]:
        """How many models of each kind stand beside the audited one, by the names that `Metric.needs` uses."""
        return {
            "references": len(self.references),
            "before": int(self.before is not None),
            "retrained": int(self.retrained is not None),
            "updates": len(self.updates),
            "shadows": len(self.shadows),
        }

    def evaluate(self, state: ModelState, samples: Samples) -> Evaluation:
        """Losses N, predictions N and logits N x K of a state for samples, computed once."""
        return self.evaluations.of(self.task, self.blank, state, samples)

    def network(self, state: ModelState) -> nn.Module:
        """A network of its own with `state` in it, to be trained or looked into."""
        own = copy.deepcopy(self.blank)
        own.load_state_dict(dict(state))
        return own


def no_samples(like: Samples) -> Samples:
    """No sample, of the same kind as `like`."""
    return Samples(like.inputs[:0], like.labels[:0])

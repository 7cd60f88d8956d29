"""Measuring a model: the server on its own test set, the clients on their own samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedunlearn.audit import accuracy, backdoor, error
from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.examination import Group, read, tally
from fedunlearn.audit.loss_histogram import LOSS_EDGES, histogram_by_class
from fedunlearn.audit.membership import auc, match_classes
from fedunlearn.audit.regression_attack import balanced_accuracy, centres
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state, pack
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import ARRAYS, BASE, CONFIG, MASK, array_record, state_record
from fedunlearn.strategies.exchange import Outcome, exchange
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job
from fedunlearn.tasks import outputs
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.training import evaluate

AUDIT = "evaluate.audit"
PARTS = ("all", "triggered", "untriggered", "canaries")


@dataclass(frozen=True)
class Examiner:
    """Measures models of one session on one grid.

    Attributes:
        base: the model that clients hold by digest; what differs from it is all that is sent.
    """

    session: Session
    grid: Grid
    roster: Roster
    base: ModelState

    @cached_property
    def _base_digest(self) -> str:
        return digest_state(self.base)

    @cached_property
    def _base_record(self) -> ArrayRecord:
        return state_record(self.base)

    def on_test(self, model: ModelState) -> dict[str, Any]:
        """Loss on the central test set, accuracy (class by class) where there is one, and the back-door's success."""
        return self._on_test(model)[0]

    def _on_test(self, model: ModelState, with_errors: bool = False) -> tuple[dict[str, Any], Tensor]:
        """The figures of `on_test`, and the loss of each test sample.

        Args:
            with_errors: also how far completed images are from the true ones.
        """
        session = self.session
        labels, classes = session.dataset.test.labels, session.dataset.classes
        session.blank.load_state_dict(model)
        test = evaluate(session.task, session.blank, session.dataset.test)
        right = accuracy.combine(tally(test, labels, len(classes)))
        success, apart = None, None
        if session.triggered is not None and session.backdoor is not None:
            worked = backdoor.success(session.task, session.blank, session.triggered, session.backdoor.target)
            success = backdoor.combine(worked)
        if with_errors and isinstance(session.task, ImageToImageTask):
            apart = error.count(outputs.errors(session.task, session.blank, session.dataset.test), minimum=1)
        figures: dict[str, Any] = {
            "test_accuracy": right.overall,
            "test_accuracy_by_class": dict(zip(classes, right.by_class, strict=True)),
            "test_loss": float(test.losses.mean()),
            "test_error": None if apart is None else apart["sum"] / apart["samples"],
            "test_psnr": None if apart is None else error.peak_signal_to_noise(apart["squares"] / apart["samples"]),
            "backdoor_success": success,
        }
        return figures, test.losses

    def on_forget_set(self, model: ModelState, job: Job, mask: ChannelMask | None = None) -> dict[str, Group | None]:
        """The parts of the forget set, as the targets that are there report them."""
        there = [client for client in job.targets if client in self.roster.members]
        outcome = self._ask(there, model, job, mask, retained=False)
        return {part: _group(outcome, f"forget.{part}") for part in PARTS}

    def on_round(self, model: ModelState, job: Job, mask: ChannelMask | None) -> dict[str, Any]:
        """The few figures that are followed from round to round."""
        groups = self.on_forget_set(model, job, mask)
        figures = self.on_test(model)
        for part, group in groups.items():
            prefix = "forget" if part == "all" else part
            figures[f"{prefix}_accuracy"] = None if group is None else group.accuracy
            figures[f"{prefix}_loss"] = None if group is None else group.loss
        canaries = groups["canaries"]
        figures["canary_exposure"] = None if canaries is None else canaries.exposure
        return figures

    def in_full(
        self, model: ModelState, job: Job, classes: tuple[int, ...] | None, mask: ChannelMask | None = None
    ) -> dict[str, Any]:
        """Everything that a comparison shows of a model, cost apart.

        Args:
            classes: the forgotten classes, for requests that name some.
        """
        clients = sorted({*self.roster.retaining(), *(t for t in job.targets if t in self.roster.members)})
        outcome = self._ask(clients, model, job, mask, retained=True, errors=True)
        groups = {part: _group(outcome, f"forget.{part}") for part in PARTS}
        retained = _group(outcome, "retain")
        everything, canaries = groups["all"], groups["canaries"]
        figures, test_losses = self._on_test(model, with_errors=True)
        by_class = list(figures["test_accuracy_by_class"].values())
        forgotten = [by_class[index] for index in classes or () if by_class[index] is not None]
        return {
            **figures,
            "retain_accuracy": None if retained is None else retained.accuracy,
            "retain_loss": None if retained is None else retained.loss,
            "retain_error": None if retained is None else retained.error,
            "retain_psnr": None if retained is None else retained.psnr,
            "forget": {part: None if group is None else group.summary() for part, group in groups.items()},
            "forgotten_classes_accuracy": sum(forgotten) / len(forgotten) if forgotten else None,
            "canary_exposure": None if canaries is None else canaries.exposure,
            **self._membership(test_losses, everything),
        }

    def on_unseen(self, model: ModelState, job: Job, mask: ChannelMask | None = None) -> Group | None:
        """What those who did not ask hold out of all training; where nothing is held out, what they train on.

        Where everybody asked, everybody answers. None where nobody does.
        """
        staying = sorted(self.roster.members.keys() - set(job.targets)) or sorted(self.roster.members)
        found = _group(self._ask(staying, model, job, mask, retained=False, held_out=True), "held-out")
        return found or _group(self._ask(staying, model, job, mask, retained=True), "retain")

    def class_counts(self, job: Job) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many samples of each class are forgotten and retained, as all clients say, K each."""
        clients = sorted({*self.roster.retaining(), *(t for t in job.targets if t in self.roster.members)})
        outcome = self._ask(clients, self.base, job, None, retained=True)
        forgotten, retained = _group(outcome, "forget.all"), _group(outcome, "retain")
        none = (0,) * len(self.session.dataset.classes)
        return (
            none if forgotten is None else forgotten.per_class_count,
            none if retained is None else retained.per_class_count,
        )

    def hand_out(self, model: ModelState) -> None:
        """Send a model to all clients, who keep it as the base of later messages (and evaluate it)."""
        self._ask(sorted(self.roster.members), model, Job((), (), frozenset()), None, retained=False, whole=True)

    def _membership(self, test_losses: Tensor, forgotten: Group | None) -> dict[str, float | None]:
        """Attacks by the loss: forget set against unseen test samples, class by class in proportion."""
        if forgotten is None or forgotten.histogram is None:
            return {"membership_auc": None, "membership_accuracy": None}
        members, dataset = forgotten.histogram, self.session.dataset
        by_class = histogram_by_class(test_losses, dataset.test.labels, len(dataset.classes))
        outside = match_classes(by_class, forgotten.per_class_count)
        told = None
        if outside is not None and sum(outside) >= MINIMUM_SAMPLES:
            told = balanced_accuracy(members, outside, centres(LOSS_EDGES), self.session.settings.seed)
        return {"membership_auc": auc(members, outside), "membership_accuracy": told}

    def _ask(
        self,
        clients: list[int],
        model: ModelState,
        job: Job,
        mask: ChannelMask | None,
        retained: bool,
        whole: bool = False,
        held_out: bool = False,
        errors: bool = False,
    ) -> Outcome:
        base, digest = self._base_record, self._base_digest
        if whole:
            base, digest = state_record(model), digest_state(model)
        asked = {"retained": retained, "held-out": held_out, "errors": errors}
        config = ConfigRecord({"base": digest, "requests": list(job.requests), **asked})
        content = RecordDict({CONFIG: config})
        if whole:
            content[BASE] = base
        elif mask is not None:
            content[MASK] = array_record(mask.to_arrays())
            content[ARRAYS] = array_record(pack(model, mask.portion(self.session.architecture.layout)))
        elif digest_state(model) != digest:
            content[ARRAYS] = state_record(model)
        return exchange(
            self.grid,
            self.roster,
            AUDIT,
            dict.fromkeys(clients, content),
            self.session.settings.timeout,
            base=base,
        )


def _group(outcome: Outcome, prefix: str) -> Group | None:
    findings = []
    for answer in outcome.answers:
        own = {n.removeprefix(f"{prefix}."): v for n, v in answer.metrics.items() if n.startswith(f"{prefix}.")}
        if own:
            findings.append(own)
    return read(findings)

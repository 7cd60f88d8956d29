"""Measuring models by metrics that are known by name: models go to where the data is, counts come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.audit.metric import Finding, Gathered, Metric, Role, Value, metrics
from fedunlearn.audit.places import to_text
from fedunlearn.audit.subject import Evaluations, Subject, no_samples
from fedunlearn.channels.packing import digest_state
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.server.audited import Audited, Pool
from fedunlearn.server.extra_round import updates_around
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import CONFIG, state_record
from fedunlearn.strategies.exchange import Outcome, exchange
from fedunlearn.strategies.measurement import MEASURE, MEASURED, model_record_name
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job
from fedunlearn.tasks.randomness import seeded_generator

__all__ = ["Audited", "measure", "measure_each"]


def measure(
    grid: Grid,
    roster: Roster,
    session: Session,
    job: Job,
    model: ModelState,
    names: Sequence[str],
    references: Sequence[ModelState] = (),
    before: ModelState | None = None,
    retrained: ModelState | None = None,
    seed: int = 0,
    classes: tuple[int, ...] = (),
    shadows: Sequence[ModelState] = (),
) -> dict[str, Value]:
    """The values of the metrics `names` for one model, by name: `measure_each` of one."""
    one = Audited(model, references, before, retrained, None, shadows)
    return measure_each(grid, roster, session, job, {"model": one}, names, seed, classes, before)["model"]


def measure_each(
    grid: Grid,
    roster: Roster,
    session: Session,
    job: Job,
    audited: Mapping[str, Audited],
    names: Sequence[str],
    seed: int = 0,
    classes: tuple[int, ...] = (),
    base: ModelState | None = None,
) -> dict[str, dict[str, Value]]:
    """The values of the metrics `names` for several models: label -> value's name -> value.

    One message a client holds every model once, whatever the number of audited ones that it stands beside; each
    model is evaluated once on the same samples. Whoever judges retrained models leaves the judged one out of its
    references, and gives the others as many references as it has, so that all are measured alike.

    Args:
        audited: label -> what to measure.
        names: metrics that are measured by name (`fedunlearn.audit.metric.measurable`).
        seed: for splits and subsamples; equal for all models.
        classes: the forgotten classes, for requests that name some.
        base: a model that clients keep by digest; it is sent only to who lacks it.

    Raises:
        UnknownName: a metric is not registered.
        SettingsError: a metric is registered, but not measured by name.
        ClientError: clients were asked and none answered.
    """
    asked = [_measured(name) for name in names]
    if not audited:
        return {}
    needs = {kind for metric in asked for kind in metric.needs}
    if "updates" in needs:
        audited = {label: _with_updates(grid, roster, session, one, seed) for label, one in audited.items()}
    found: dict[str, dict[str, dict[Role, dict[int, Finding]]]] = {label: {} for label in audited}
    outcomes = _ask(grid, roster, session, job, audited, asked, seed, base)
    for outcome in outcomes:
        for answer in outcome.answers:
            _sort_in(found, list(audited), answer.client, answer.metrics)
    evaluations = Evaluations()
    values: dict[str, dict[str, Value]] = {}
    for label, one in audited.items():
        values[label] = {}
        subject = _server_subject(session, one, evaluations)
        for metric in asked:
            why = (
                metric.unsuited(session.task)
                or metric.lacking(one.given)
                or _unanswered(metric, found[label], job, roster, outcomes)
            )
            if why is not None:
                values[label] |= dict.fromkeys(metric.values, Value.refusal(why))
                continue
            by_role = found[label].get(metric.name, {})
            own = None
            if "server" in metric.roles and metric.measure is not None:
                own = metric.measure(subject, seeded_generator(seed, metric.name, "server"))
            gathered = Gathered(
                sizes=subject.sizes,
                target=by_role.get("target", {}),
                remaining=by_role.get("remaining", {}),
                server=own,
                forgotten_classes=classes,
                seed=seed,
            )
            values[label] |= metric.combine(gathered) if metric.combine is not None else {}
    return values


def _measured(name: str) -> Metric:
    metric = metrics.get(name)
    if metric.measure is None or metric.combine is None:
        raise SettingsError(f"metric {name!r} is reported by a comparison and not measured by name; leave it out.")
    return metric


def _with_updates(grid: Grid, roster: Roster, session: Session, one: Audited, seed: int) -> Audited:
    """With the updates of a round around the model, unless there are some or clients are elsewhere."""
    simulated = all((session.folder.clients / str(client)).is_dir() for client in roster.members)
    if one.updates is not None or not simulated:
        return one
    return replace(one, updates=updates_around(grid, roster, session, one.model, seed))


def _ask(
    grid: Grid,
    roster: Roster,
    session: Session,
    job: Job,
    audited: Mapping[str, Audited],
    asked: Sequence[Metric],
    seed: int,
    base: ModelState | None,
) -> list[Outcome]:
    """What the clients answered: targets are asked for more than others are, and sent more models."""
    base = base if base is not None else next(iter(audited.values())).model
    targets = {client for client in job.targets if client in roster.members}
    remaining = set(roster.retaining())
    groups = (
        (targets - remaining, {"target"}),
        (targets & remaining, {"target", "remaining"}),
        (remaining - targets, {"remaining"}),
    )
    outcomes = [_ask_group(grid, roster, session, job, audited, asked, seed, base, *group) for group in groups]
    return [outcome for outcome in outcomes if outcome is not None]


def _ask_group(
    grid: Grid,
    roster: Roster,
    session: Session,
    job: Job,
    audited: Mapping[str, Audited],
    asked: Sequence[Metric],
    seed: int,
    base: ModelState,
    clients: set[int],
    roles: set[str],
) -> Outcome | None:
    wanted = [metric for metric in asked if metric.roles & roles and metric.unsuited(session.task) is None]
    if not clients or not wanted:
        return None
    needs = {kind for metric in wanted for kind in metric.needs}
    pool, digest = Pool(), digest_state(base)
    places = [pool.place(one, needs) for one in audited.values()]
    config = {
        "base": digest,
        "requests": list(job.requests),
        "metrics": [metric.name for metric in wanted],
        "models": pool.digests,
        "places": to_text(places),
        "seed": seed,
    }
    content = RecordDict({CONFIG: ConfigRecord(config)})  # type: ignore[arg-type]
    for position, model in enumerate(pool.models):
        if pool.digests[position] != digest:
            content[model_record_name(position)] = state_record(model)
    contents = dict.fromkeys(sorted(clients), content)
    outcome = exchange(grid, roster, MEASURE, contents, session.settings.timeout, base=state_record(base))
    if not outcome.answers and "remaining" in roles:
        raise ClientError(f"nobody answered {MEASURE!r}: {outcome.dropped[0][1]}")
    return outcome


def _sort_in(
    found: dict[str, dict[str, dict[Role, dict[int, Finding]]]],
    labels: Sequence[str],
    client: int,
    answered: Mapping[str, int | float | list[int] | list[float]],
) -> None:
    for key, value in answered.items():
        place, name, role, what = key.split(MEASURED)
        by_role = found[labels[int(place)]].setdefault(name, {})
        by_role.setdefault(role, {}).setdefault(client, {})[what] = value  # type: ignore[arg-type, index]


def _unanswered(
    metric: Metric,
    found: Mapping[str, Mapping[Role, Mapping[int, Finding]]],
    job: Job,
    roster: Roster,
    outcomes: Sequence[Outcome],
) -> str | None:
    """Why there is no finding of a target though the metric needs one, in one sentence; else None."""
    if "target" not in metric.roles or found.get(metric.name, {}).get("target"):
        return None
    failed = [sentence for outcome in outcomes for client, sentence in outcome.dropped if client in job.targets]
    if failed:
        return failed[0]
    if not any(client in roster.members for client in job.targets):
        return f"{metric.name} is computed on the forget set, and no target client is there to do it."
    return f"{metric.name} was withheld: a group of samples that it needs is too small to report on."


def _server_subject(session: Session, one: Audited, evaluations: Evaluations) -> Subject:
    test, trigger = session.dataset.test, session.backdoor
    nothing = no_samples(test)
    return Subject(
        role="server",
        task=session.task,
        blank=session.blank,
        classes=len(session.dataset.classes),
        layout=session.architecture.layout,
        training=session.training,
        model=one.model,
        forget=nothing,
        retained=nothing,
        held_out=test,
        parts=np.empty(0, dtype="<U9"),
        true_labels=torch.empty(0, dtype=torch.int64),
        references=tuple(one.references),
        before=one.before,
        retrained=one.retrained,
        updates=tuple(one.updates or ()),
        shadows=tuple(one.shadows),
        triggered=session.triggered,
        trigger_target=None if trigger is None else trigger.target,
        evaluations=evaluations,
    )

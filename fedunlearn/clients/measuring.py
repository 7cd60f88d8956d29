"""The handler that measures models by the metrics that a message names; what it computes is registered here."""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedunlearn.audit.counts import MINIMUM_SAMPLES, leave_few
from fedunlearn.audit.metric import Role, metrics
from fedunlearn.audit.places import Place, from_text
from fedunlearn.audit.subject import Evaluations, ModelState, Subject, no_samples
from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.handlers import base_model
from fedunlearn.clients.site import Site
from fedunlearn.errors import ClientError, DataError
from fedunlearn.strategies.content import CONFIG, FLAGS, METRICS, state_of
from fedunlearn.strategies.measurement import MEASURED, model_record_name
from fedunlearn.tasks.randomness import seeded_generator


def measure(message: Message, site: Site) -> Message:
    """The findings of every metric, role and audited model that the message names, by flat names.

    Only numbers and lists of counts are made; the guard lets pass what each metric declares and nothing else.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    models = models_of(message, config, site)
    if models is None:
        return Message(RecordDict({FLAGS: ConfigRecord({"needs-base": True})}), reply_to=message)
    try:
        places = from_text(str(config["places"]), len(models))
        names, requests, seed = list(config["metrics"]), list(config["requests"]), int(config["seed"])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise ClientError(f"the message's configuration cannot be measured by: {error}") from error
    subjects = _subjects(site, [str(id) for id in requests], models, places)
    found: dict[str, int | float | list[int]] = {}
    for name in names:
        metric = metrics.get(str(name))
        if metric.measure is None:
            raise ClientError(f"metric {metric.name!r} is not measured by name; a comparison reports it.")
        for (place, role), subject in subjects.items():
            if role in metric.roles and not metric.unsuited(site.task) and not metric.lacking(subject.given):
                # The same draws for every audited model, so that they differ in nothing else.
                generator = seeded_generator(seed, metric.name, role, site.client)
                for key, value in metric.measure(subject, generator).items():
                    found[MEASURED.join((str(place), metric.name, role, key))] = value
    return Message(RecordDict({METRICS: MetricRecord(found)}), reply_to=message)  # type: ignore[arg-type]


def models_of(message: Message, config: ConfigRecord, site: Site) -> list[ModelState] | None:
    """The models in the message's order; None when one is lacking that neither came nor is kept here."""
    digests = [str(digest) for digest in config.get("models", [])]  # type: ignore[union-attr]
    records = message.content.array_records
    models: list[ModelState] = []
    base: ModelState | None = None
    for position, digest in enumerate(digests):
        name = model_record_name(position)
        if name in records:
            state = state_of(records[name])
            if digest_state(state) != digest:
                raise ClientError("a model that came does not have the digest that the message names.")
            models.append(state)
            continue
        if digest != config["base"]:
            raise ClientError("a model that the message names did not come with it, and is not the base either.")
        base = base or base_model(message, site)
        if base is None:
            return None
        models.append(base)
    return models


def _subjects(
    site: Site, requests: list[str], models: list[ModelState], places: tuple[Place, ...]
) -> dict[tuple[int, Role], Subject]:
    """Place number and role -> subject. A target that keeps samples has both roles; what was computed is shared."""
    positions = _without_small_parts(site, site.forget_positions(requests))
    forget = site.holding.samples.take(positions)
    retained, held_out = site.training_samples(), site.held_out_samples()
    evaluations = Evaluations()
    roles: list[Role] = ["target"] if len(positions) else []
    roles += ["remaining"] if len(retained) else []
    subjects: dict[tuple[int, Role], Subject] = {}
    for number, place in enumerate(places):
        for role in roles:
            own = role == "target"
            subjects[number, role] = Subject(
                role=role,
                task=site.task,
                blank=site.blank,
                classes=site.classes,
                layout=site.layout,
                training=site.training,
                model=models[place.model],
                forget=forget if own else no_samples(forget),
                retained=retained,
                held_out=held_out,
                parts=site.holding.parts[positions] if own else np.empty(0, dtype=site.holding.parts.dtype),
                true_labels=site.holding.true_labels[positions] if own else forget.labels[:0],
                references=tuple(models[one] for one in place.references),
                before=None if place.before is None else models[place.before],
                retrained=None if place.retrained is None else models[place.retrained],
                updates=tuple(models[one] for one in place.updates),
                shadows=tuple(models[one] for one in place.shadows),
                evaluations=evaluations,
            )
    return subjects


def _without_small_parts(site: Site, positions: np.ndarray) -> np.ndarray:
    """The forget set less the parts of which nothing is told, where sums over them would follow from the whole's.

    A comparison tells the sums of the other parts (`fedunlearn.clients.handlers.audit`).
    """
    parts = site.holding.parts[positions]
    names, numbers = np.unique(parts, return_counts=True)
    if not leave_few(numbers.tolist()):
        return positions
    return positions[np.isin(parts, names[numbers >= MINIMUM_SAMPLES])]

"""What a reply to `evaluate.measure` may hold: what the metrics that were asked for declare, and nothing else."""

from __future__ import annotations

import math

from flwr.app import ConfigRecord, Message, MetricRecord

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.metric import Metric, Sent, Sizes, metrics
from fedunlearn.audit.places import Place, from_text
from fedunlearn.errors import FedunlearnError
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.measurement import MEASURED

CLIENT_ROLES = ("target", "remaining")


def undeclared(incoming: Message, record: MetricRecord, classes: int) -> tuple[str, str] | None:
    """The first finding that is not declared and what was expected of it; None when all is well."""
    asked, places = _asked(incoming)
    for key, value in record.items():
        place, name, role, what = (key.split(MEASURED) + [""] * 4)[:4]
        metric = asked.get(name)
        known = place.isascii() and place.isdigit() and str(int(place)) == place and int(place) < len(places)
        if metric is None or not known or role not in CLIENT_ROLES or role not in metric.roles:
            return key, "a name on the allow-list"
        if key != MEASURED.join((place, name, role, what)) or what not in metric.sends:
            return key, "a name on the allow-list"
        prefix = key.removesuffix(what)
        wrong = _unlike(metric.sends[what], value, record, prefix, _sizes(places[int(place)], classes))
        if wrong:
            return key, wrong
    return None


def _asked(incoming: Message) -> tuple[dict[str, Metric], tuple[Place, ...]]:
    """The registered metrics and the places that the message names; none of them when it cannot be read."""
    config = incoming.content.config_records.get(CONFIG, ConfigRecord())
    names, models = config.get("metrics", []), config.get("models", [])
    if not isinstance(names, list) or not isinstance(models, list):
        return {}, ()
    try:
        return {str(n): metrics.get(str(n)) for n in names}, from_text(str(config.get("places", "[]")), len(models))
    except FedunlearnError:
        return {}, ()  # then nothing is allowed, which is what is told


def _sizes(place: Place, classes: int) -> Sizes:
    return Sizes(classes, len(place.references), len(place.shadows), len(place.updates))


def _unlike(sent: Sent, value: object, record: MetricRecord, prefix: str, sizes: Sizes) -> str | None:
    """What was expected, unless `value` is what is declared."""
    length = sent.expected_length(sizes)
    if length is None:
        if type(value) not in (int, float):
            return "one number, no list"
        if sent.whole and (type(value) is not int or value < 0):
            return "a count"
        if sent.several and value < MINIMUM_SAMPLES:  # type: ignore[operator]
            return f"a number of samples, {MINIMUM_SAMPLES} at least"
        if sent.of and not _is_several(record.get(f"{prefix}{sent.of}")):
            return f"a sum beside its number of samples, {MINIMUM_SAMPLES} at least"
        return None
    if sent.real:
        if not isinstance(value, list) or len(value) != length or not all(_is_real(one) for one in value):
            return f"a list of {length} sums"
        if not _is_several(record.get(f"{prefix}{sent.of}")):
            return f"sums beside their number of samples, {MINIMUM_SAMPLES} at least"
        return None
    if not isinstance(value, list) or len(value) != length or not all(type(one) is int and one >= 0 for one in value):
        return f"a list of {length} counts"
    if sent.each and any(0 < one < MINIMUM_SAMPLES for one in value):
        return f"counts of 0, or of {MINIMUM_SAMPLES} at least"
    if sent.several and sum(value) < MINIMUM_SAMPLES:
        return f"each sample once, and {MINIMUM_SAMPLES} samples at least"
    return None


def _is_real(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_several(value: object) -> bool:
    return type(value) is int and value >= MINIMUM_SAMPLES

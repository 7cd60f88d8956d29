"""What every registered metric promises, on a small real task: built-in ones and those of installed packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedunlearn.audit.metric import Finding, Gathered, Metric, Role, Value, measurable, metrics
from fedunlearn.audit.places import Place, to_text
from fedunlearn.audit.subject import Subject, no_samples
from fedunlearn.clients.guard_measurements import undeclared
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import Backdoor
from fedunlearn.engines.flower_compat import ensure_identity
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.measurement import MEASURE, MEASURED

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "audits.md"
MODELS = 20
Subjects = Mapping[tuple[int, Role], Subject]


def around(target: Subject, server: Subject, briefly: Callable[[int], Mapping]) -> Subjects:
    """A target, two remaining clients and the server, with as many models as any metric asks for."""
    noise = torch.Generator().manual_seed(0)

    def disturbed(size: float) -> dict:
        return {k: v + size * torch.randn(v.shape, generator=noise) for k, v in target.model.items()}

    models = {
        "model": disturbed(0.01),
        "references": tuple(briefly(seed) for seed in range(MODELS)),
        "shadows": tuple(disturbed(0.01) for _ in range(MODELS)),
    }
    trigger, test = Backdoor(client=0, share=0.5, target=1), server.held_out
    # Class 1 is forgotten: enough of it, and of a class that stays, that sums over a class may be reported.
    asked = (target.forget.labels != 1).long().argsort(stable=True)[:60]
    kept = target.retained.labels.argsort(stable=True)
    few = replace(target, forget=target.forget.take(asked), parts=target.parts[:60], **models)
    remaining = replace(
        few,
        role="remaining",
        forget=no_samples(target.forget),
        parts=target.parts[:0],
        true_labels=target.true_labels[:0],
    )
    return {
        (0, "target"): replace(few, true_labels=target.true_labels[asked]),
        (1, "remaining"): replace(remaining, retained=target.retained.take(kept[:50])),
        (2, "remaining"): replace(remaining, retained=target.retained.take(kept[50:100])),
        (-1, "server"): replace(
            server, triggered=Samples(trigger.stamp(test.inputs), test.labels), trigger_target=1, **models
        ),
    }


@pytest.fixture(scope="module")
def every_subject(target: Subject, server: Subject, briefly, completion) -> Mapping[str, Subjects]:
    """What a task has to answer with -> those who measure models of such a task."""
    classes = around(target, server, briefly)
    images = around(completion.target, completion.server, completion.briefly)
    return {"anything": classes, "classes": classes, "images": images}


@pytest.fixture
def subjects(every_subject: Mapping[str, Subjects], name: str) -> Subjects:
    """Those who measure the metric called `name`."""
    return every_subject[metrics.get(name).answers]


def measured(metric: Metric, subjects: Subjects) -> dict[tuple[int, Role], Finding]:
    assert metric.measure is not None
    return {
        (client, role): metric.measure(subject, torch.Generator().manual_seed(3))
        for (client, role), subject in subjects.items()
        if role in metric.roles
    }


@pytest.fixture(scope="module")
def findings_of(every_subject: Mapping[str, Subjects]) -> Callable[[str], dict[tuple[int, Role], Finding]]:
    """Every metric's findings, measured once."""
    known: dict[str, dict[tuple[int, Role], Finding]] = {}

    def find(name: str) -> dict[tuple[int, Role], Finding]:
        if name not in known:
            metric = metrics.get(name)
            known[name] = measured(metric, every_subject[metric.answers])
        return known[name]

    return find


def gathered_from(findings: Mapping[tuple[int, Role], Finding], subject: Subject) -> Gathered:
    return Gathered(
        sizes=subject.sizes,
        target={client: found for (client, role), found in findings.items() if role == "target"},
        remaining={client: found for (client, role), found in findings.items() if role == "remaining"},
        server=next((found for (_, role), found in findings.items() if role == "server"), None),
        forgotten_classes=(1,),
    )


def is_sound(value: Value, within: tuple[float, float]) -> bool:
    if value.value is None:
        return value.of is None or value.of >= 0
    rate = value.kind != "rate" or (0 <= value.value <= 1 and value.of is not None and value.of >= 1)
    return math.isfinite(value.value) and within[0] <= value.value <= within[1] and rate and not value.refused


@pytest.mark.parametrize("name", measurable())
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = metrics.get(name)
    assert metric.name == name and metric.what.endswith(".") and "\n" not in metric.what
    assert metric.tier in ("quick", "standard", "full") and metric.better in ("retrained", "lower")
    assert metric.roles and metric.roles <= {"target", "remaining", "server"}
    assert metric.measure is not None and metric.combine is not None
    assert next(iter(metric.values)) == name, "the first value carries the metric's own name"
    assert all(value == name or value.startswith(f"{name}.") for value in metric.values)
    assert set(metric.needs) <= {"references", "before", "retrained", "updates", "shadows"}
    assert all(fewest >= 1 for fewest in metric.needs.values()) and bool(metric.needs) == bool(metric.limits)
    assert metric.sends or metric.roles == {"server"}
    assert metric.lacking(metric.needs) is None
    for kind in metric.needs:
        refused = metric.lacking({**metric.needs, kind: metric.needs[kind] - 1})
        assert refused is not None and refused.endswith(".") and metric.limits in refused


@pytest.mark.parametrize("name", measurable())
def test_the_guide_names_it(name: str) -> None:
    named = f"`{name}`" in GUIDE.read_text(encoding="utf-8")
    assert named, f"{GUIDE.name} says nothing of {name}"


@pytest.mark.parametrize("name", measurable())
def test_only_what_is_declared_leaves_and_gives_values_in_range(name: str, subjects: Subjects, findings_of) -> None:
    ensure_identity()
    metric, findings = metrics.get(name), findings_of(name)
    models = [str(position) for position in range(2 * MODELS + 10)]
    place = Place(0, tuple(range(MODELS)), 0, 0, tuple(range(4)), tuple(range(MODELS)))
    config = {"metrics": [name], "models": models, "places": to_text([place])}
    message = Message(RecordDict({CONFIG: ConfigRecord(config)}), 1, MEASURE)
    for (_, role), found in findings.items():
        if role != "server":
            record = {MEASURED.join(("0", name, role, what)): value for what, value in found.items()}
            assert undeclared(message, MetricRecord(record), 10) is None  # type: ignore[arg-type]
    if "target" in metric.roles:
        assert findings[0, "target"], "60 ordinary samples are enough to say something"
    assert metric.combine is not None
    values = metric.combine(gathered_from(findings, next(iter(subjects.values()))))
    assert set(values) == set(metric.values)
    assert values[name].value is not None
    for key, value in values.items():
        assert is_sound(value, metric.values[key]), (key, value)


@pytest.mark.parametrize("name", measurable())
def test_the_same_twice(name: str, subjects: Subjects, findings_of) -> None:
    metric = metrics.get(name)
    once, again = findings_of(name), measured(metric, subjects)
    steady = {what for what in metric.sends if "second" not in what}
    for key, found in once.items():
        assert {w: v for w, v in found.items() if w in steady} == {w: v for w, v in again[key].items() if w in steady}


@pytest.mark.parametrize("name", measurable())
def test_where_nobody_says_anything_nothing_is_made_up(name: str, subjects: Subjects, findings_of) -> None:
    metric = metrics.get(name)
    assert metric.combine is not None
    sizes = next(iter(subjects.values())).sizes
    for own in (None, findings_of(name).get((-1, "server"))):
        values = metric.combine(Gathered(sizes, {0: {}}, {1: {}}, own))
        assert set(values) == set(metric.values)
        assert all(is_sound(value, metric.values[key]) for key, value in values.items())
        if own is None:
            assert values[name].value is None and values[name].refused.endswith(".")


@pytest.mark.parametrize("name", measurable())
def test_a_group_of_a_few_samples_gives_nothing_away(name: str, subjects: Subjects) -> None:
    """With 19 samples of each kind the guard lets everything that is still said pass: nothing is a sum or a bin."""
    ensure_identity()
    metric = metrics.get(name)
    few = {
        (client, role): replace(
            subject,
            forget=subject.forget.take(range(min(19, len(subject.forget)))),
            parts=subject.parts[:19],
            true_labels=subject.true_labels[:19],
            retained=subject.retained.take(range(min(19, len(subject.retained)))),
            held_out=subject.held_out.take(range(19)),
        )
        for (client, role), subject in subjects.items()
        if role != "server"
    }
    place = Place(0, tuple(range(MODELS)), 0, 0, tuple(range(4)), tuple(range(MODELS)))
    config = {"metrics": [name], "models": [str(one) for one in range(MODELS)], "places": to_text([place])}
    message = Message(RecordDict({CONFIG: ConfigRecord(config)}), 1, MEASURE)
    for (_, role), found in measured(metric, few).items():
        record = {MEASURED.join(("0", name, role, what)): value for what, value in found.items()}
        assert undeclared(message, MetricRecord(record), 10) is None  # type: ignore[arg-type]

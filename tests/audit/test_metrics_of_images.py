"""Every registered metric on a task that answers with images: it says something, or says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.audit.metric import Gathered, Metric, Role, answers_of, measurable, metrics
from fedunlearn.audit.subject import Subject, no_samples
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import Backdoor
from fedunlearn.tasks import get_task
from fedunlearn.tasks.layout import layout_of
from fedunlearn.tasks.training import TrainingSettings

MODELS = 20
TASK = get_task("inpainting:digits")


@pytest.fixture(scope="module")
def subjects() -> Mapping[Role, Subject]:
    """A target, a remaining client and the server; the models are untrained, and slightly different."""
    dataset = TASK.dataset(0)
    blank = TASK.build(None, 0, dataset)
    noise = torch.Generator().manual_seed(0)

    def model() -> dict[str, torch.Tensor]:
        return {k: v + 0.02 * torch.randn(v.shape, generator=noise) for k, v in blank.state_dict().items()}

    several = tuple(model() for _ in range(MODELS))
    trigger, test = Backdoor(client=0, share=0.5, size=2, margin=0), dataset.test.take(range(80))
    target = Subject(
        role="target",
        task=TASK,
        blank=blank,
        classes=10,
        layout=layout_of(TASK, blank, dataset),
        training=TrainingSettings(1, 0.02),
        model=model(),
        forget=dataset.train.take(range(60)),
        retained=dataset.train.take(range(60, 100)),
        held_out=dataset.train.take(range(100, 150)),
        parts=np.full(60, "ordinary"),
        true_labels=dataset.train.labels[:60],
        references=several,
        before=model(),
        retrained=model(),
        updates=several[:4],
        shadows=several,
    )
    nothing = no_samples(dataset.test)
    others = {"forget": nothing, "parts": target.parts[:0], "true_labels": target.true_labels[:0]}
    stamped = Samples(trigger.stamp(test.inputs), test.labels)
    return {
        "target": target,
        "remaining": replace(target, role="remaining", **others),
        "server": replace(target, role="server", retained=nothing, held_out=test, triggered=stamped, **others),
    }


def values_of(metric: Metric, subjects: Mapping[Role, Subject]):
    assert metric.measure is not None and metric.combine is not None
    found = {
        role: metric.measure(subject, torch.Generator().manual_seed(1))
        for role, subject in subjects.items()
        if role in metric.roles
    }
    for role, finding in found.items():
        # What the server finds on its own test set goes nowhere.
        assert role == "server" or set(finding) <= set(metric.sends), "nothing but what is declared leaves"
    at = {role: {0: found[role]} if role in found else {} for role in ("target", "remaining")}
    return metric.combine(
        Gathered(subjects["target"].sizes, at["target"], at["remaining"], found.get("server"), forgotten_classes=(1,))
    )


@pytest.mark.parametrize("name", measurable("standard"))
def test_a_metric_says_something_or_why_not(name: str, subjects: Mapping[Role, Subject]) -> None:
    metric = metrics.get(name)
    why = metric.unsuited(TASK)
    if why is not None:
        assert name in why and "'inpainting:digits'" in why and why.endswith(".")
        assert metric.unsuited(get_task("digits")) is None or metric.answers == "images"
        return
    values = values_of(metric, subjects)
    assert set(values) == set(metric.values)
    for key, value in values.items():
        low, high = metric.values[key]
        assert (value.value is None and value.refused) or low <= value.value <= high, key


def test_what_is_made_of_losses_and_weights_is_measured_of_images_too(subjects: Mapping[Role, Subject]) -> None:
    for name in ("membership_auc", "difference_attack", "harm", "relearning", "resurfacing", "weight_distance"):
        assert any(value.value is not None for value in values_of(metrics.get(name), subjects).values()), name
    suited = {name for name in measurable() if metrics.get(name).unsuited(TASK) is None}
    assert not {"entropy_attack", "lira_auc", "probe", "retrain_gap", "agreement"} & suited


def test_tasks_say_what_they_answer_with() -> None:
    assert answers_of(TASK) == {"images"} and answers_of(get_task("digits")) == {"classes"}

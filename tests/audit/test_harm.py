from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit import harm
from fedunlearn.audit.harm import explained_fall, harmful_classes, over_clients
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError

accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_harm_by_hand() -> None:
    found = harm.harm([0.9, 0.8, 0.7, None], [0.85, 0.81, 0.5, 0.3], amount=0.06)
    assert found is not None
    assert found.change.mean == pytest.approx((-0.05 + 0.01 - 0.2) / 3)
    assert found.change.worst == pytest.approx(-0.2) and found.change.clients == 3
    assert found.spread == pytest.approx(np.std([-0.05, 0.01, -0.2]))
    assert found.harmed == 1


def test_a_loss_harms_by_rising() -> None:
    found = harm.harm([0.1, 0.2, 0.3], [0.4, 0.1, 0.35], amount=0.1, lower_is_better=True)
    assert found is not None and found.change.worst == pytest.approx(0.3) and found.harmed == 1
    assert found.change.tenth == pytest.approx(np.quantile([0.3, -0.1, 0.05], 0.9))


@given(accuracies)
def test_the_worst_tenth_is_numpys_quantile(values: list[float]) -> None:
    over = over_clients(values)
    assert over is not None
    assert over.tenth == pytest.approx(np.quantile(values, 0.1)) and over.worst == min(values)
    losses = over_clients(values, lower_is_better=True)
    assert losses is not None
    assert losses.tenth == pytest.approx(np.quantile(values, 0.9)) and losses.worst == max(values)


def test_nobody_is_nobody() -> None:
    assert over_clients([None]) is None and harm.harm([None, 0.3], [0.2, None]) is None


def test_a_class_that_is_gone_is_found_and_others_are_not() -> None:
    before, after = [0.9, 0.9, 0.9, None], [0.88, 0.1, 0.05, 0.5]
    counts = [50, 50, 50, 0]
    [found] = harmful_classes(before, after, counts, forgotten=[2], limit=0.2)
    assert (found.label, found.before, found.after, found.samples) == (1, 0.9, 0.1, 50)
    assert found.allowed == pytest.approx(0.2)
    assert harmful_classes(before, after, counts, forgotten=[2], limit=1.0) == []


def test_what_noise_explains_is_no_harm() -> None:
    assert harmful_classes([0.9], [0.5], [10], (), 0.2) == []
    assert harmful_classes([0.9], [0.5], [200], (), 0.2) != []
    # A class that is answered never any more is found from ten samples on.
    assert harmful_classes([0.9], [0.0], [10], (), 0.2) != []


def test_a_client_that_held_most_of_a_class_may_take_it_along() -> None:
    arguments = ([0.9], [0.3], [100], (), 0.2)
    assert harmful_classes(*arguments, shares=[0.0]) and harmful_classes(*arguments, shares=[0.5])
    assert harmful_classes(*arguments, shares=[0.95]) == []


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_loss_of_data_explains_more(accuracy: float, share: float, more: float) -> None:
    low, high = sorted((share, more))
    assert 0 <= explained_fall(accuracy, low) <= explained_fall(accuracy, high) + 1e-12 <= accuracy + 1e-9
    assert explained_fall(accuracy, 0.0) == 0 and explained_fall(accuracy, 1.0) == accuracy


def test_half_of_the_data_gone_doubles_the_error() -> None:
    assert explained_fall(0.9, 0.5) == pytest.approx(0.1)
    assert explained_fall(1.0, 0.5) == pytest.approx(0.05), "an error of nothing counts as 0.05"


@pytest.fixture
def damaged(target: Subject) -> Subject:
    """The class 3 is never answered any more."""
    state = {name: tensor.clone() for name, tensor in target.model.items()}
    state["output.bias"][3] = -1e4
    return replace(target, role="remaining", model=state, before=target.model)


def test_clients_report_what_one_would_count_on_their_samples(damaged: Subject) -> None:
    found = harm.measure(damaged, torch.Generator())
    labels = damaged.held_out.labels
    before, after = (damaged.evaluate(state, damaged.held_out) for state in (damaged.before, damaged.model))
    assert before is not None
    for when, answers in (("before", before), ("after", after)):
        right = labels[answers.predictions == labels]
        assert found[when] == np.bincount(right, minlength=10).tolist()
        assert found[f"loss_{when}"] == pytest.approx(float(answers.losses.sum()), rel=1e-5)
    assert found["total"] == np.bincount(labels, minlength=10).tolist() and found["after"][3] == 0  # type: ignore[index]


def test_the_values_of_two_clients_by_hand() -> None:
    one = {"before": [9, 9], "after": [9, 0], "total": [10, 10], "samples": 20, "loss_before": 4.0, "loss_after": 40.0}
    two = {"before": [9, 10], "after": [10, 10], "total": [10, 10]}
    values = harm.combine(Gathered(metrics_sizes(), remaining={1: one, 2: two, 3: {}}))
    assert set(values) == set(metrics.get("harm").values) == set(harm.names())
    found = {name.partition(".")[2]: value.value for name, value in values.items()}
    assert found[""] == pytest.approx((-0.45 + 0.05) / 2) and found["worst"] == pytest.approx(-0.45)
    assert found["accuracy_worst"] == pytest.approx(0.45) and found["clients_harmed"] == 1
    assert found["loss"] == found["loss_worst"] == pytest.approx(1.8)
    # Of class 1 there are 20 samples: 0.95 before, 0.5 after, which three deviations make 0.07 of.
    assert found["classes_harmed"] == 0
    worse = {**two, "after": [10, 0]}
    assert harm.combine(Gathered(metrics_sizes(), remaining={1: one, 2: worse}))["harm.classes_harmed"].value == 1
    named = Gathered(metrics_sizes(), remaining={1: one, 2: worse}, forgotten_classes=(1,))
    assert harm.combine(named)["harm.classes_harmed"].value == 0


def metrics_sizes():
    from fedunlearn.audit.metric import Sizes

    return Sizes(classes=2)


def test_the_model_before_is_needed(target: Subject) -> None:
    with pytest.raises(DataError, match="needs the model before"):
        harm.measure(replace(target, before=None), torch.Generator())

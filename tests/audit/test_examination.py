from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fedunlearn.audit.examination import examine, read
from fedunlearn.audit.loss_histogram import BINS
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks import get_task


@pytest.fixture(scope="module")
def known():
    """A task, a model, and samples with the logits that the model gives them."""
    task = get_task("digits")
    dataset = task.dataset(0)
    model = task.build(None, 1, dataset).eval()
    samples = dataset.test.take(torch.arange(60))
    with torch.no_grad():
        logits = model(task.inputs(samples.inputs))
    return task, model, samples, logits


def test_counts_sums_and_histogram_by_hand(known) -> None:
    task, model, samples, logits = known
    found = examine(task, model, samples, 10)
    losses = functional.cross_entropy(logits, samples.labels, reduction="none")
    right = logits.argmax(1) == samples.labels
    assert found["total"] == torch.bincount(samples.labels, minlength=10).tolist()
    assert found["correct"] == torch.bincount(samples.labels[right], minlength=10).tolist()
    assert found["loss-sum"] == pytest.approx(float(losses.sum()), rel=1e-5) and found["loss-samples"] == 60
    assert len(found["histogram"]) == BINS and sum(found["histogram"]) == 60
    assert "exposure-sum" not in found


@pytest.mark.parametrize(("count", "told"), [(19, False), (20, True)])
def test_few_samples_give_counts_alone(known, count: int, told: bool) -> None:
    task, model, samples, _ = known
    true_labels = (samples.labels[:count] + 1) % 10
    found = examine(task, model, samples.take(torch.arange(count)), 10, true_labels)
    assert ({"loss-sum", "histogram", "exposure-sum"} <= set(found)) == told
    assert ({"correct", "total"} == set(found)) != told


def test_several_clients_add_up_to_one_group(known) -> None:
    task, model, samples, _ = known
    parts = [samples.take(torch.arange(0, 25)), samples.take(torch.arange(25, 60))]
    together = read([examine(task, model, samples, 10)])
    apart = read([*(examine(task, model, part, 10) for part in parts), {}])
    assert together is not None and apart is not None
    assert apart.loss == pytest.approx(together.loss)
    assert (apart.accuracy, apart.by_class, apart.histogram) == (
        together.accuracy,
        together.by_class,
        together.histogram,
    )
    assert apart.count == 60 == sum(apart.per_class_count)
    assert apart.summary() == {"accuracy": apart.accuracy, "loss": apart.loss, "count": 60}


def test_what_one_client_withheld_is_left_out_of_that_sum_only(known) -> None:
    task, model, samples, _ = known
    large = examine(task, model, samples.take(torch.arange(0, 40)), 10)
    small = examine(task, model, samples.take(torch.arange(40, 50)), 10)
    group = read([large, small])
    assert group is not None and group.count == 50
    assert group.loss == pytest.approx(large["loss-sum"] / 40)
    assert sum(group.histogram or ()) == 40


def test_nobody_holds_anything(known) -> None:
    assert read([]) is None and read([{}, {}]) is None
    task, model, samples, _ = known
    only_counts = read([examine(task, model, samples.take(torch.arange(3)), 10)])
    assert only_counts is not None
    assert (only_counts.loss, only_counts.histogram, only_counts.exposure) == (None, None, None)


def test_canaries_have_an_exposure(known) -> None:
    task, model, samples, logits = known
    wrong = (samples.labels + 3) % 10
    canaries = Samples(samples.inputs, wrong)
    group = read([examine(task, model, canaries, 10, samples.labels)])
    ranks = []
    for row, own, true in zip(logits, wrong, samples.labels, strict=True):
        others = [k for k in range(10) if k not in (int(own), int(true))]
        ranks.append(sum(float(row[k] < row[own]) for k in others) / len(others))
    assert group is not None and group.exposure == pytest.approx(math.fsum(ranks) / 60)

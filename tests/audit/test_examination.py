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
    assert apart.summary() == {
        **{"accuracy": apart.accuracy, "loss": apart.loss, "count": 60},
        **{"error": None, "psnr": None},
    }


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


@pytest.fixture(scope="module")
def images():
    task = get_task("inpainting:digits")
    dataset = task.dataset(0)
    return task, task.build(None, 1, dataset).eval(), dataset.test.take(torch.arange(60))


def test_of_completed_images_there_are_errors_and_no_right_answers(images) -> None:
    task, model, samples = images
    found = examine(task, model, samples, 10, with_errors=True)
    inputs = task.inputs(samples.inputs)
    with torch.no_grad():
        apart = (task.reconstruct(model, inputs) - inputs)[:, :, 2:6, 2:6].flatten(1)
    squares = apart.square().mean(dim=1).double()
    assert found["total"] == torch.bincount(samples.labels, minlength=10).tolist() and "correct" not in found
    assert found["loss-sum"] == pytest.approx(float(squares.sum()), rel=1e-5)
    assert found["error-sum"] == pytest.approx(float(squares.sqrt().sum()), rel=1e-5)
    assert found["square-sum"] == pytest.approx(float(squares.sum()), rel=1e-5) and found["error-samples"] == 60
    group = read([found])
    assert group is not None and group.accuracy is None and set(group.by_class) == {None} and group.count == 60
    assert group.error == pytest.approx(float(squares.sqrt().mean()), rel=1e-5)
    assert group.psnr == pytest.approx(float(10 * torch.log10(1 / squares.mean())), rel=1e-4)


def test_errors_are_made_only_where_they_are_asked_for_and_of_twenty_images(images) -> None:
    task, model, samples = images
    assert "error-sum" not in examine(task, model, samples, 10)
    few = examine(task, model, samples.take(torch.arange(19)), 10, with_errors=True)
    assert set(few) == {"total"}


def test_canaries_of_a_task_without_classes_have_no_exposure(images) -> None:
    task, model, samples = images
    assert "exposure-sum" not in examine(task, model, samples, 10, samples.labels)

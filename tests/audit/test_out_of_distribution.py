from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import out_of_distribution, reconstruction_attack
from fedunlearn.audit.error_histogram import BINS, ERROR_EDGES, histogram, quantile
from fedunlearn.audit.families import images
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.tasks.outputs import answers, displacements, errors


def test_the_share_is_that_of_the_displacements_themselves(completion) -> None:
    target = completion.target
    remaining = replace(target, role="remaining")
    model = {name: tensor + 0.05 for name, tensor in target.model.items()}
    findings = [out_of_distribution.measure(replace(one, model=model), None) for one in (target, remaining)]
    values = out_of_distribution.combine(Gathered(Sizes(10), {0: findings[0]}, {1: findings[1]}))
    usual = errors(target.task, target.network(target.before), target.held_out)
    threshold = quantile(histogram(usual), 0.95)
    before = answers(target.task, target.network(target.before), target.forget)
    apart = displacements(target.task, target.network(model), target.forget, before)
    assert values["out_of_distribution.threshold"].value == threshold
    assert values["out_of_distribution"].value == pytest.approx(float((apart > threshold).double().mean()))
    assert values["out_of_distribution.displacement"].value == pytest.approx(float(apart.mean()), rel=0.03)


def test_the_original_is_where_it_was(completion) -> None:
    found = out_of_distribution.measure(completion.target, None)
    assert found["displacements"] == [len(completion.target.forget), *[0] * (BINS - 1)]


def test_lists_are_as_long_as_they_are_declared() -> None:
    assert images.ERROR_BINS == BINS == len(reconstruction_attack.EDGES) + 1 == len(ERROR_EDGES) + 1


def test_what_was_learned_by_heart_is_told_apart_by_its_error(completion) -> None:
    """Against the AUC of the errors themselves."""
    target = completion.target
    unseen = completion.server.held_out
    found = {
        0: reconstruction_attack.measure(target, torch.Generator()),
        -1: reconstruction_attack.measure(completion.server, torch.Generator()),
    }
    values = reconstruction_attack.combine(Gathered(Sizes(10), {0: found[0]}, {}, found[-1]))
    own, others = (errors(target.task, target.network(target.model), one) for one in (target.forget, unseen))
    by_class = [others[unseen.labels == label] for label in range(10)]
    counts = target.forget.labels.bincount(minlength=10)
    exact = sum(
        float(counts[label]) * float((own[:, None] < by_class[label]).double().mean()) for label in range(10)
    ) / float(counts.sum())
    bound = values["reconstruction_attack.binning"].value
    assert values["reconstruction_attack"].value == pytest.approx(exact, abs=bound + 0.02)

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedunlearn.audit import rmia
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.audit.rmia import EDGES, OFFSETS, log_ratios
from fedunlearn.audit.score_attack import score_bins
from fedunlearn.audit.subject import Subject


@pytest.mark.parametrize("offset", OFFSETS)
def test_is_the_papers_ratio(offset: float) -> None:
    shares = torch.rand(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own, references = shares[0].numpy(), shares[1:].numpy()
    evidence = ((1 + offset) * references.mean(axis=0) + (1 - offset)) / 2
    found = log_ratios(shares[0].log(), shares[1:].log(), offset)
    assert found.numpy() == pytest.approx(np.log(own / evidence))


def test_the_ratio_orders_samples_as_the_share_of_a_population_does() -> None:
    """RMIA's own score, by brute force: how much of a population has a smaller ratio?"""
    random = np.random.default_rng(0)
    members, others, population = (np.exp(random.normal(m, 1, n)) for m, n in ((0.5, 150), (0, 200), (0, 20000)))
    truth = np.repeat([1, 0], [150, 200])
    ratios = np.concatenate([members, others])
    brute = np.array([(ratio / population > 1).mean() for ratio in ratios])
    # The population's steps make ties, which the ratio itself does not have.
    assert roc_auc_score(truth, ratios) == pytest.approx(roc_auc_score(truth, brute), abs=1e-3)


def measured(target: Subject, server: Subject) -> Gathered:
    findings = [rmia.measure(side, torch.Generator().manual_seed(0)) for side in (target, server)]
    return Gathered(target.sizes, {0: findings[0]}, server=findings[1])


def test_the_offset_that_tells_most_before_is_used(target: Subject, server: Subject) -> None:
    gathered = measured(target, server)
    values = rmia.combine(gathered)
    offset = values["rmia_auc.offset"].value
    areas = {}
    for candidate in OFFSETS:
        scores = []
        for side, samples in ((target, target.forget), (server, server.held_out)):
            own, *references = (
                side.evaluate(s, samples).logits.double().log_softmax(1).gather(1, samples.labels[:, None])[:, 0]
                for s in (side.model, *side.references)
            )
            scores.append(log_ratios(own, torch.stack(references), candidate))
        labels = server.held_out.labels
        weights = (target.forget.labels.bincount(minlength=10) / labels.bincount(minlength=10))[labels]
        truth = torch.cat([torch.ones(200), torch.zeros(len(labels))])
        areas[candidate] = roc_auc_score(truth, torch.cat(scores), sample_weight=torch.cat([torch.ones(200), weights]))
    assert areas[offset] == pytest.approx(max(areas.values()), abs=0.02)
    # The target's own unseen samples count too, and bins are bins.
    assert values["rmia_auc"].value == pytest.approx(areas[offset], abs=0.03)
    assert values["rmia_auc"].value > 0.55


def test_rows_are_cut_apart(target: Subject, server: Subject) -> None:
    gathered = measured(target, server)
    assert len(gathered.target[0]["members"]) == rmia.ROWS * rmia.LENGTH  # type: ignore[arg-type]
    last = rmia._only(gathered, rmia.ROWS - 1)
    (own, *references) = (
        server.evaluate(s, server.held_out)
        .logits.double()
        .log_softmax(1)
        .gather(1, server.held_out.labels[:, None])[:, 0]
        for s in (server.model, *server.references)
    )
    scores = log_ratios(own, torch.stack(references), 1.0)
    expected = [score_bins(scores[server.held_out.labels == k], EDGES) for k in range(10)]
    assert last.server == {"unseen": [n for row in expected for n in row]}
    assert sum(last.target[0]["members"]) == 200  # type: ignore[arg-type]


def test_nothing_to_say_is_said_of_every_value() -> None:
    values = rmia.combine(Gathered(Sizes(10, 2), {0: {}}))
    assert "rmia_auc.offset" in values and all(value.refused for value in values.values())

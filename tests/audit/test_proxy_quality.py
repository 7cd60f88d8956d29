from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.inception import InceptionScore

from fedunlearn.audit import proxy_quality
from fedunlearn.audit.proxy_quality import compared, learned_classifier


@pytest.fixture(scope="module")
def classifier(completion):
    server = completion.server
    images = server.task.inputs(server.held_out.inputs[:200])
    return learned_classifier(images, server.held_out.labels[:200], 10, torch.Generator().manual_seed(0))


def test_the_distance_is_that_of_two_gaussians(completion, classifier) -> None:
    """Against the formula with a matrix square root."""
    images = completion.server.task.inputs(completion.server.held_out.inputs[200:300])
    darker = 0.5 * images
    with torch.no_grad():
        one, other = (classifier.features(some).double().numpy() for some in (images, darker))
    covariances = [np.cov(features.T) for features in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert compared(classifier, darker, images)["frechet_distance"] == pytest.approx(expected, rel=0.02)


def test_true_images_are_their_own_best_likeness(completion, classifier) -> None:
    images = completion.server.task.inputs(completion.server.held_out.inputs[200:300])
    same, noise = compared(classifier, images, images), compared(classifier, torch.rand(images.shape), images)
    assert same["frechet_distance"] == pytest.approx(0, abs=1e-3) and same["cosine"] == pytest.approx(1)
    assert noise["frechet_distance"] > 10 * same["frechet_distance"] + 0.01 and noise["cosine"] < 0.99
    assert 1 <= noise["inception_score"] < same["inception_score"] <= 10


@pytest.mark.filterwarnings("ignore")
def test_the_score_is_torchmetrics(completion, classifier) -> None:
    images = completion.server.task.inputs(completion.server.held_out.inputs[200:300])
    theirs = InceptionScore(feature=classifier, splits=1)
    with torch.no_grad():
        theirs.update(images)
    assert compared(classifier, images, images)["inception_score"] == pytest.approx(
        float(theirs.compute()[0]), rel=1e-4
    )


def test_few_images_are_refused(completion) -> None:
    few = replace(completion.server, held_out=completion.server.held_out.take(range(100)))
    assert proxy_quality.measure(few, torch.Generator()) == {}

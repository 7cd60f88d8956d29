"""Frechet distance, inception score and cosine of completed images, seen by a classifier of the same data: proxies.

The literature's FID, IS and CLIP similarity look through networks trained on millions of images. Where those cannot be
had, a small classifier trained here stands in their place: the numbers compare models of one run, and nothing with the
literature. The server trains it on half of its unseen images, with their labels, and looks at the other half; only
moments of features enter the figures. The distance (Heusel et al. 2017) is torchmetrics'; the score is that of Salimans
et al. 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.fid import FrechetInceptionDistance

from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.outputs import answers
from fedunlearn.tasks.randomness import isolated_seed

NAME = "proxy_quality"
FIGURES = ("frechet_distance", "inception_score", "cosine")
FEATURES, WIDTH = 32, 16
PASSES, BATCH, RATE = 12, 32, 0.002
FEWEST = 2 * FEATURES
"""Images on either half: a covariance of fewer would have no rank."""


class Classifier(nn.Module):
    """Three convolutions, features that are means over the picture, and a linear layer on top."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, WIDTH, FEATURES, FEATURES)
        self.body = nn.Sequential(
            *[
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Conv2d(before, after, 3, padding=1, stride=2), nn.GroupNorm(8, after), nn.SiLU())
            ]
        )
        self.output = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """N x FEATURES."""
        found: Tensor = self.body(images).mean(dim=(2, 3))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x K."""
        logits: Tensor = self.output(self.features(images))
        return logits


class _Extractor(nn.Module):
    """What torchmetrics asks for features."""

    num_features = FEATURES

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self._classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self._classifier.features(images)


def learned_classifier(images: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> Classifier:
    """A classifier of `images` (float, N x C x H x W); equal generators give equal ones."""
    with isolated_seed(int(torch.randint(2**62, (), generator=generator))):
        model = Classifier(images.shape[1], classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(PASSES):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def compared(classifier: Classifier, completed: Tensor, images: Tensor) -> dict[str, float]:
    """The three figures of completed images against the true ones, both N x C x H x W from 0 to 1, N > 1."""
    frechet = FrechetInceptionDistance(feature=_Extractor(classifier))
    frechet.update(images, real=True)
    frechet.update(completed, real=False)
    with torch.no_grad():
        cosine = functional.cosine_similarity(classifier.features(completed), classifier.features(images)).mean()
        said = classifier(completed).double().log_softmax(dim=1)
    marginal = said.exp().mean(dim=0, keepdim=True).log()
    return {
        "frechet_distance": max(0.0, float(frechet.compute())),
        # One split: torchmetrics' would keep every answer, and take a deviation of one number.
        "inception_score": float((said.exp() * (said - marginal)).sum(dim=1).mean().exp()),
        "cosine": float(cosine),
    }


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """The figures on the half of the server's images that the classifier did not see."""
    unseen = subject.held_out
    order = torch.randperm(len(unseen), generator=generator)
    half = len(unseen) // 2
    if half < FEWEST:
        return {}
    images = subject.task.inputs(unseen.inputs[order[:half]])
    classifier = learned_classifier(images, unseen.labels[order[:half]], subject.classes, generator)
    other = Samples(unseen.inputs[order[half:]], unseen.labels[order[half:]])
    completed = answers(subject.task, subject.network(subject.model), other)
    return compared(classifier, completed, subject.task.inputs(other.inputs))


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """The server's figures; the first value is the Frechet distance."""
    found = gathered.server
    if not found:
        why = f"{NAME} needs {2 * FEWEST} unseen images at the server; there are fewer."
        return dict.fromkeys((NAME, *(f"{NAME}.{figure}" for figure in FIGURES[1:])), Value.refusal(why))
    values = {figure: Value(float(found[figure])) for figure in FIGURES}  # type: ignore[arg-type]
    return {NAME: values["frechet_distance"], **{f"{NAME}.{figure}": values[figure] for figure in FIGURES[1:]}}

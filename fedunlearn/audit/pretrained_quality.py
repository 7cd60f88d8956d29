"""FID, inception score and CLIP similarity of completed images: through the networks of the literature, where they are.

torchmetrics looks through Inception (package torch-fidelity) and CLIP (package transformers), whose weights are
downloaded when first used. Where package or weights cannot be had, each figure is refused in a sentence;
`proxy_quality` needs neither. The server's unseen images alone are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.tasks.outputs import answers

NAME = "pretrained_quality"
SIDE = 224
"""Pixels that CLIP wants an image to have at least."""
LACKING = "without"
"""Begin of the name under which it is told that a figure's network is not there."""


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """The figures whose networks can be had, and a mark for each whose cannot."""
    images = subject.task.inputs(subject.held_out.inputs)
    completed = answers(subject.task, subject.network(subject.model), subject.held_out)
    pair = tuple(_coloured(one) for one in (completed, images))
    found: dict[str, int | float | list[int]] = {}
    for name, look in LOOKS.items():
        try:
            found[name] = look(*pair)
        except (ImportError, OSError):
            # The package is not installed, or its weights could not be downloaded.
            found[f"{LACKING}.{name}"] = 1
    return found


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """FID, inception score and CLIP cosine; one whose network cannot be had is refused."""
    found = gathered.server or {}
    values = {}
    for name in LOOKS:
        if name in found:
            values[name] = Value(float(found[name]))  # type: ignore[arg-type]
        else:
            values[name] = Value.refusal(
                f"{name} looks through a network whose weights cannot be had here; install {PACKAGES[name]} with a "
                "connection to the internet, or read proxy_quality."
            )
    return {NAME: values["fid"], f"{NAME}.inception_score": values["inception_score"], f"{NAME}.clip": values["clip"]}


def frechet_inception_distance(completed: Tensor, images: Tensor) -> float:
    """FID (Heusel et al. 2017), 0 upwards, of float images N x 3 x H x W. Raises ImportError or OSError."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=2048, normalize=True)
    metric.update(images, real=True)
    metric.update(completed, real=False)
    return float(metric.compute())


def inception_score(completed: Tensor, images: Tensor) -> float:
    """Inception score (Salimans et al. 2016), 1 upwards, of float images N x 3 x H x W. Raises as above."""
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(normalize=True)
    metric.update(completed)
    return float(metric.compute()[0])


def clip_similarity(completed: Tensor, images: Tensor) -> float:
    """Mean CLIP cosine of completed and true images, -1 to 1. Raises as above."""
    from torchmetrics.functional.multimodal import clip_score

    large = [functional.interpolate(one, size=(SIDE, SIDE)).mul(255).byte() for one in (completed, images)]
    return float(clip_score(list(large[0]), list(large[1]))) / 100


LOOKS: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "fid": frechet_inception_distance,
    "inception_score": inception_score,
    "clip": clip_similarity,
}
PACKAGES = {"fid": "torch-fidelity", "inception_score": "torch-fidelity", "clip": "transformers"}


def _coloured(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

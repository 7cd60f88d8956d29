"""How close completed images are to the true ones: mean squared error and structural similarity, image by image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import ImageToImageTask, Task
from fedunlearn.tasks.outputs import by_batch

SMALLEST_SIDE = 6
"""The similarity's Gaussian window reflects five pixels at the border."""


def qualities(task: Task, model: nn.Module, samples: Samples) -> Tensor:
    """Mean squared error and structural similarity of each image, N x 2, over the pixels that are judged.

    The similarity (Wang et al. 2004) is torchmetrics': a Gaussian window of deviation 1.5 over values from 0 to 1; of
    its map over the image only the judged pixels are averaged. It is nan for images of fewer than 6 pixels a side.
    """
    if not isinstance(task, ImageToImageTask):
        raise TypeError(f"task {task.name!r} does not answer with images.")

    def quality(inputs: Tensor, labels: Tensor) -> Tensor:
        completed, region = task.reconstruct(model, inputs), task.region(inputs)
        squares = (completed - inputs).square()
        return torch.stack([_mean_over(squares, region), _mean_over(similarity_map(completed, inputs), region)], dim=1)

    return by_batch(task, model, samples, quality)


def similarity_map(completed: Tensor, images: Tensor) -> Tensor:
    """The structural similarity around each pixel, N x C x H x W, -1 to 1."""
    if min(images.shape[2:]) < SMALLEST_SIDE:
        return torch.full_like(images, torch.nan)
    found = structural_similarity_index_measure(
        completed, images, data_range=1.0, reduction="none", return_full_image=True
    )
    whole: Tensor = found[1]
    return whole


def count(found: Tensor) -> dict[str, int | float]:
    """Sums over images and their number; nothing for fewer than 20 images.

    Args:
        found: what `qualities` gives, N x 2.
    """
    if len(found) < MINIMUM_SAMPLES:
        return {}
    squares, similarities = found.double().sum(dim=0).tolist()
    return {"samples": len(found), "square-sum": squares, "similarity-sum": similarities}


def _mean_over(values: Tensor, region: Tensor) -> Tensor:
    weights = region.expand_as(values).flatten(1)
    return (weights * values.flatten(1)).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)

"""What methods for images share: rounds of two terms, noise that looks like images, and what they ask of a task.

One machine minimises (retain term) + weight x (forget term). Here the target takes the second, whoever holds retained
data the first, both from the same model, and the server adds the two changes: with one step of one batch each that is
the centralised step. The forget term is computed on forget samples alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.by_role import KeepMean, add_kept
from fedunlearn.strategies.method import Phase, Reply, Work
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.passes import ByPosition, forget_recipe, train_forgetting
from fedunlearn.strategies.recovery import send_packed, train_on_retained
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.encoding import EncodingTask, TargetedTask
from fedunlearn.tasks.training import modes_kept

FORGET_OPTIONS = frozenset({"weight", "forget_epochs"})
WEIGHT = 0.25
"""Of the forget term; the authors' 0.1 and 0.2 are for AdamW."""
_KEPT = "forget-term"
_BATCH = 64


def two_terms(
    settings: UnlearnSettings,
    forget: Callable[[Work], Reply],
    retain: Callable[[Work], Reply] = train_on_retained,
) -> list[Phase]:
    """`settings.rounds` rounds of a target's forget term and the others' retain term. Raises SettingsError."""
    positive(settings, "weight", WEIGHT)
    whole(settings, "forget_epochs", settings.local_epochs, lowest=1)
    apart = Phase("train.forget", "target", send_packed, forget, KeepMean(name=_KEPT))
    joined = Phase("train.recover", "remaining", send_packed, retain, add_kept(_KEPT))
    return [apart, joined] * settings.rounds


def train_forget_term(work: Work, term: ByPosition) -> Reply:
    """The target's passes on weight x `term`, (model, inputs, positions in the forget set) -> N."""
    weight = positive(work.settings, "weight", WEIGHT)

    def weighted(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return weight * term(model, inputs, positions)

    return train_forgetting(work, work.forget, weighted, forget_recipe(work))


def original(work: Work) -> nn.Module:
    """The model that the request found, in evaluation mode."""
    model = copy.deepcopy(work.model)
    model.load_state_dict(dict(work.base))
    return model.eval()


def targeted(task: Task) -> TargetedTask:
    """The task, if its model can be trained towards other images. Raises ClientError."""
    if isinstance(task, TargetedTask):
        return task
    raise ClientError(
        f"task {task.name!r} cannot be trained towards images that are not its inputs (it has no `loss_to`); use an "
        "image-to-image task, or a method that needs a loss alone, such as max-loss."
    )


def encoding(task: Task) -> EncodingTask:
    """The task, if its model has an encoder. Raises ClientError."""
    if isinstance(task, EncodingTask):
        return task
    raise ClientError(
        f"task {task.name!r} shows no encoder (it has no `encode`); use an image-to-image task whose network has one, "
        "or a method that needs a loss alone, such as max-loss."
    )


def noise_like(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise with each image's mean and deviation, N x C x H x W, cut off at 0 and 1."""
    dimensions = tuple(range(1, images.dim()))
    mean, deviation = images.mean(dim=dimensions, keepdim=True), images.std(dim=dimensions, keepdim=True)
    return (mean + deviation * torch.randn(images.shape, generator=generator)).clamp(0, 1)


@torch.no_grad()
def features(work: Work, model: nn.Module, images: Tensor) -> Tensor:
    """The encoder's features of `images` (N x C x H x W, 0 to 1) in evaluation mode, N x ...; no gradient."""
    task = encoding(work.task)
    with modes_kept(model):
        model.eval()
        return torch.cat([task.encode(model, part) for part in images.split(_BATCH)])


def mean_squares(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of each sample, N; both N x ..."""
    return (one - other).square().flatten(1).mean(dim=1)


def own_images(work: Work) -> Samples:
    """Images that stay, at the target: those it keeps, or where it keeps none those that it never trained on.

    Raises ClientError where it has neither.
    """
    samples = work.retain if len(work.retain) else work.held_out
    if not len(samples):
        raise ClientError(
            "the target keeps no image and holds none out, so that it has nothing to show in their place; train with "
            "a share held out."
        )
    return samples

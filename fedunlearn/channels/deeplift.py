"""DeepLIFT: differences of activations from those of an all-zero input, propagated back by Captum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from captum.attr import DeepLift, LayerDeepLift
from torch import Tensor, nn

from fedunlearn.channels.explained import Explained, NotSupported

# Captum's DeepLIFT adds up exactly where it knows every operation; float32 leaves about 1e-5.
_LARGEST_SHARE_UNEXPLAINED = 0.01
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_WITH_RULE = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax, *_POOLS)
_LINEAR = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten, nn.Identity),
)
"""Linear in what comes in, when a model is evaluated: no rule is needed."""


class _Logits(nn.Module):
    """The model's own output, with the taps' counting started anew at each pass."""

    def __init__(self, explained: Explained) -> None:
        super().__init__()
        self.explained = explained

    def forward(self, inputs: Tensor) -> Tensor:
        self.explained.restart()
        logits: Tensor = self.explained.model(inputs)
        return logits


def deeplift(explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Summed over samples, |DeepLIFT (rescale rule) of the channel| (Shrikumar et al. 2017).

    What is explained is the recorded label's logit, not the log-likelihood: DeepLIFT is defined before a
    softmax.

    Raises NotSupported where Captum's DeepLIFT does not hold: a nonlinear step that is not a module, or a
    module used more than once, or one it has no rule for (attention, group and layer normalisation), or a
    max pooling over maps that vary for an input of zeros, as behind padding, where its rule errs (issue 1276
    of Captum is a part of it). It is found out by adding up: contributions that miss the change of the output
    by more than 1 % are refused.
    """
    logits = _Logits(explained)
    name = type(explained.model).__name__
    _check_classes(explained, inputs, labels)
    inputs = inputs.detach().clone().requires_grad_()
    with warnings.catch_warnings(), _attributes_restored(explained.model):
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks", category=UserWarning)
        _check_adds_up(logits, name, inputs, labels)
        scores = {}
        for group in explained.layout.groups:
            parts = [
                LayerDeepLift(logits, tap).attribute(inputs, torch.zeros_like(inputs), target=labels)
                for tap in explained.taps(group.layer)
            ]
            scores[group.layer] = explained.per_sample(group, parts, len(inputs)).abs().sum(dim=0)
    return scores


@contextmanager
def _attributes_restored(model: nn.Module) -> Iterator[None]:
    """Take back the tensors that Captum leaves on modules when it fails half-way."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(vars(module)) - names:
                delattr(module, name)


def _check_classes(explained: Explained, inputs: Tensor, labels: Tensor) -> None:
    with torch.no_grad():
        explained.restart()
        output = explained.model(inputs[:1]) if inputs.is_floating_point() else None
    if output is None or output.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
        raise NotSupported(
            "deeplift needs floating-point inputs, logits of N x classes and N class labels:"
            " use gradient-x-activation or ablation for other tasks."
        )


def _check_adds_up(logits: _Logits, name: str, inputs: Tensor, labels: Tensor) -> None:
    advice = "use gradient-x-activation, conductance, integrated-gradients or ablation."
    try:
        contributions = DeepLift(logits).attribute(inputs, torch.zeros_like(inputs), target=labels)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotSupported(
            f"deeplift needs every activation of {name} to be a module that is used once, and met another: {advice}"
        ) from error
    with torch.no_grad():
        chosen = torch.arange(len(inputs), device=inputs.device)
        change = (logits(inputs) - logits(torch.zeros_like(inputs)))[chosen, labels]
    missed = (contributions.detach().flatten(1).sum(dim=1) - change).abs()
    if bool((missed > _LARGEST_SHARE_UNEXPLAINED * change.abs().max() + 1e-6).any()):
        share = float(missed.max() / change.abs().max())
        raise NotSupported(
            f"deeplift misses the output of {name} by {share:.0%}, because {_why(logits.explained.model)}: {advice}"
        )


def _why(model: nn.Module) -> str:
    """What in a model Captum's rules do not cover, as far as its modules tell."""
    kinds = {type(module) for module in model.modules() if not any(module.children())}
    without = sorted(kind.__name__ for kind in kinds if not issubclass(kind, (*_LINEAR, *_WITH_RULE)))
    if without:
        return f"Captum has no rule for {', '.join(without)}"
    function = "a nonlinear step in it is a function, and no module"
    pools = sorted(kind.__name__ for kind in kinds if issubclass(kind, _POOLS))
    return f"Captum's rule for {pools[0]} does not hold behind padding, or {function}" if pools else function

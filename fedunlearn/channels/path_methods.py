"""Methods that follow a path from a baseline of zeros to the sample: conductance and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import LayerConductance, LayerIntegratedGradients
from torch import Tensor, nn

from fedunlearn.channels.explained import Explained, NotSupported
from fedunlearn.errors import SettingsError

# A path multiplies every sample by its steps: this many of them are in memory at once.
_POINTS_AT_ONCE = 1024

_Attribute = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Conductance:
    """Summed over samples, |conductance of the channel| from an all-zero input (Dhamdhere et al. 2018).

    `steps`: points on the path, 1 or more. Raises NotSupported for inputs that are not floating point.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores by layer for a batch, float64, summed over its samples."""

        def values(tap: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
            method = LayerConductance(explained, tap)
            # The rule's points must reach both ends of the path, or the changes of activation do not add up.
            result: Tensor = method.attribute(
                inputs, additional_forward_args=(labels,), n_steps=self.steps, method="riemann_trapezoid"
            )
            return result

        return _along_path("conductance", values, explained, inputs, labels, self.steps)


@dataclass(frozen=True)
class IntegratedGradients:
    """Summed over samples, |integrated gradients of the layer's output| from its output for an all-zero input
    (Sundararajan et al. 2017).

    `steps`: points on the path, 1 or more. Raises NotSupported for inputs that are not floating point.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores by layer for a batch, float64, summed over its samples."""

        def values(tap: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
            method = LayerIntegratedGradients(explained, tap)
            result: Tensor = method.attribute(inputs, additional_forward_args=(labels,), n_steps=self.steps)
            return result

        return _along_path("integrated-gradients", values, explained, inputs, labels, self.steps)


def _along_path(
    name: str, values: _Attribute, explained: Explained, inputs: Tensor, labels: Tensor, steps: int
) -> dict[str, Tensor]:
    if not inputs.is_floating_point():
        raise NotSupported(
            f"{name} follows a path between inputs, and inputs of {inputs.dtype} have no points in between:"
            " use gradient-x-activation or ablation."
        )
    groups = explained.layout.groups
    for group in groups:
        if explained.rows_per_sample(group.layer) != 1:
            raise NotSupported(
                f"{name} needs one entry a sample in the first dimension of the output of {group.observed}:"
                " use gradient-x-activation or ablation."
            )
    size = max(1, _POINTS_AT_ONCE // (steps + 1))
    scores = {group.layer: torch.zeros(group.channels, dtype=torch.float64) for group in groups}
    for some_inputs, some_labels in zip(inputs.split(size), labels.split(size), strict=True):
        for group in groups:
            parts = [values(tap, some_inputs, some_labels) for tap in explained.taps(group.layer)]
            scores[group.layer] += explained.per_sample(group, parts, len(some_inputs)).abs().sum(dim=0)
    return scores


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise SettingsError(f"a path of {steps} steps is none: give 1 or more.")

"""Attribution: how important each channel is for some data, computed where the data is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from fedunlearn.channels.ablation import ablation
from fedunlearn.channels.deeplift import deeplift
from fedunlearn.channels.explained import AttributionMethod, Explained, NotSupported, PerSampleLoss
from fedunlearn.channels.gradient_x_activation import gradient_x_activation
from fedunlearn.channels.layout import Layout, evaluation_mode
from fedunlearn.channels.path_methods import Conductance, IntegratedGradients
from fedunlearn.errors import DataError
from fedunlearn.registry import Registry

__all__ = ["AttributionMethod", "NotSupported", "PerSampleLoss", "attribute", "attribution_methods"]

attribution_methods: Registry[AttributionMethod] = Registry(
    "attribution method", group="fedunlearn.attribution_methods"
)
attribution_methods.register("gradient-x-activation", gradient_x_activation)
attribution_methods.register("ablation", ablation)
attribution_methods.register("conductance", Conductance())
attribution_methods.register("integrated-gradients", IntegratedGradients())
attribution_methods.register("deeplift", deeplift)


def attribute(
    model: nn.Module,
    loss: PerSampleLoss,
    batches: Iterable[tuple[Tensor, Tensor]],
    layout: Layout,
    method: str | AttributionMethod = "gradient-x-activation",
) -> dict[str, Tensor]:
    """The mean score of every channel over some samples, by layer (float32, one value a channel).

    What is explained is the log-likelihood of the recorded label: minus `loss(model, inputs, labels)`, which
    gives one value a sample. Scores are 0 or more (`ablation`: the rise of the loss, which may be negative),
    exactly 0 for a channel that cannot influence the loss, and do not depend on how samples are batched: the
    model is in evaluation mode, and left as it was. Memory is bounded by the largest of the `batches`
    (inputs, labels).

    Args:
        method: the name of a registered method, or the method itself (`Conductance(steps=50)`).

    Raises:
        UnknownName: no method has this name.
        NotSupported: the method cannot be computed for this model.
        SettingsError: the loss does not return one value a sample.
        DataError: there is no sample, or a score is not finite.
    """
    score = attribution_methods.get(method) if isinstance(method, str) else method
    totals = {group.layer: torch.zeros(group.channels, dtype=torch.float64) for group in layout.groups}
    samples = 0
    explained: Explained | None = None
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        for inputs, labels in batches:
            if not len(inputs):
                continue
            if explained is None:
                explained = stack.enter_context(Explained(model, loss, layout, inputs, labels))
            for layer, scores in score(explained, inputs, labels).items():
                totals[layer] += scores
            samples += len(inputs)
    if not samples:
        raise DataError("attribution got no sample: give at least one batch that is not empty.")
    for layer, total in totals.items():
        if not bool(torch.isfinite(total).all()):
            raise DataError(
                f"the attribution of layer {layer} is not finite: the loss overflows on these samples,"
                " so check that training did not diverge."
            )
    return {layer: (total / samples).float() for layer, total in totals.items()}

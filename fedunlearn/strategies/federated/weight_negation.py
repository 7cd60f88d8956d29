"""NoT: the weights of a layer change their sign, and the federation recovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedunlearn.channels.layout import Layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.method import EVERY_SCOPE, Down, ModelState, Need, Phase, Scope, State, methods
from fedunlearn.strategies.recovery import RECOVER, send_packed, train_on_retained


@dataclass(frozen=True)
class WeightNegation:
    """Recovery rounds from the model whose chosen layers were multiplied by -1.

    Option `layer`: names of layers, separated by commas, or "first" (the default: the first layer with channels).
    """

    name: str = "not"
    source: str = (
        "Khalil et al. 2025, NoT (CVPR, arXiv 2503.05657); the first layer as the default, and that weight and bias "
        "but no normalisation change their sign, are reconstruction"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    options: frozenset[str] = frozenset({"layer"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds; the first starts from the negated model."""
        first = Phase("train.recover", "remaining", _send_negated, train_on_retained, Average(_negated))
        return [first, *[RECOVER] * (settings.rounds - 1)]


def negate(model: ModelState, layout: Layout, layers: str = "first") -> ModelState:
    """A new model whose chosen layers have the opposite sign, weight and bias; all else is the same.

    Raises:
        SettingsError: there is no such layer.
    """
    parameters = {group.layer: group.parameters for group in layout.groups}
    parameters[layout.output_layer] = layout.output
    chosen = [layout.groups[0].layer] if layers == "first" else [name.strip() for name in layers.split(",")]
    negated = dict(model)
    for layer in chosen:
        if layer not in parameters:
            raise SettingsError(f"layer = {layer!r}: layers that can be negated are {', '.join(parameters)}.")
        own = [name for name in parameters[layer] if name.rpartition(".")[0] == layer]
        for name in parameters[layer]:
            # A layer that the model holds under two names is stored twice.
            if name in own or any(_same(model[name], model[one]) for one in own):
                negated[name] = -model[name]
    return negated


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dim() > 1 and torch.equal(one, other)


def _negated(state: State) -> State:
    layers = str(state.settings.options.get("layer", "first"))
    return replace(state, model=negate(state.model, state.layout, layers))


def _send_negated(state: State) -> Down:
    return send_packed(_negated(state))


methods.register("not", WeightNegation())

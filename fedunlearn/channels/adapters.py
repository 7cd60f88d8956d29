"""Low-rank adapters (Hu et al., 2021): what lies beside some layers of a network, in groups, and how it is merged.

An adapted layer computes W x + s B (A x) with W frozen. For a convolution A is a convolution of the same kernel to
`rank` maps and B one of 1x1: the factors of its weight as a matrix, a row for each output map.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.errors import CorruptModel, SettingsError
from fedunlearn.randomness import derive_seed

State = Mapping[str, Tensor]

DOWN, UP = "lora_A", "lora_B"
"""The factors, as peft names them: from the layer's inputs to `rank` numbers, and from there to its outputs."""
HIGHEST_RANK = 1024
_SLOT = "request"


@dataclass(frozen=True)
class AdapterPlan:
    """Which layers have an adapter, and of what kind.

    Attributes:
        groups: names of the layers of each group; a group is kept or dropped as a whole.
        rank: of every adapter, 1 to 1,024.
        scale: s, what an adapter's answer is multiplied by.
        seed: A is drawn from it, layer by layer, the same at every node.
        both: whether A moves; else B alone does, and means of B are means of B A.

    Raises:
        SettingsError: a number is out of range, or a layer is there twice.
    """

    groups: tuple[tuple[str, ...], ...]
    rank: int
    scale: float
    seed: int
    both: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= HIGHEST_RANK or not (math.isfinite(self.scale) and self.scale > 0):
            raise SettingsError(
                f"adapters of rank {self.rank} and scale {self.scale}: expected a rank from 1 to {HIGHEST_RANK}, and a "
                "scale above 0."
            )
        if len(set(self.layers)) != len(self.layers):
            raise SettingsError("a layer is in two groups of adapters; each has one adapter at most.")

    @property
    def layers(self) -> tuple[str, ...]:
        """The adapted layers, group by group."""
        return tuple(layer for group in self.groups for layer in group)

    def names(self, layer: str) -> tuple[str, ...]:
        """The factors of one layer that move, by their names in the adapted network."""
        return tuple(factor_name(layer, factor) for factor in ((DOWN, UP) if self.both else (UP,)))

    def names_by_group(self) -> list[list[str]]:
        """What moves in each group."""
        return [[name for layer in group for name in self.names(layer)] for group in self.groups]

    @property
    def portion(self) -> Portion:
        """All that moves."""
        return Portion({name: None for layer in self.layers for name in self.names(layer)})

    def to_text(self) -> str:
        """As it travels and is kept."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def of_text(text: str) -> AdapterPlan:
        """The inverse of `to_text`. Raises SettingsError for a text that is none."""
        try:
            content: dict[str, Any] = json.loads(text)
            groups = tuple(tuple(str(layer) for layer in group) for group in content.pop("groups"))
            plan = AdapterPlan(groups=groups, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError("a plan of adapters came that cannot be read; expected one of this version.") from error
        numbers = (plan.rank, plan.seed)
        if not all(type(number) is int for number in numbers) or type(plan.both) is not bool:
            raise SettingsError("a plan of adapters came with a rank, seed or choice of factors of the wrong type.")
        return plan


@dataclass(frozen=True, eq=False)
class Adapters:
    """Adapters with their numbers.

    Attributes:
        plan: where they are.
        factors: what moves, by name in the adapted network; `AdapterPlan.portion` of it is everything.
    """

    plan: AdapterPlan
    factors: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def fresh(plan: AdapterPlan, model: State) -> Adapters:
        """Adapters that add nothing yet: A as drawn, B zero. Raises SettingsError for a layer that has no weight."""
        factors = {}
        for layer in plan.layers:
            weight = _weight(model, layer)
            if plan.both:
                factors[factor_name(layer, DOWN)] = drawn(plan, layer, weight.shape)
            ones = (1,) * (weight.dim() - 2)
            factors[factor_name(layer, UP)] = torch.zeros(weight.shape[0], plan.rank, *ones)
        return Adapters(plan, factors)

    def product(self, layer: str, weight: Tensor) -> Tensor:
        """What the adapter adds to the layer's weight, of its shape."""
        up = self.factors[factor_name(layer, UP)]
        down = self.factors[factor_name(layer, DOWN)] if self.plan.both else drawn(self.plan, layer, weight.shape)
        added = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        return self.plan.scale * added.reshape(weight.shape)

    def merged(self, model: State) -> dict[str, Tensor]:
        """The model with every adapter added to the weight beside which it lies; all else as it was."""
        after = dict(model)
        for layer in self.plan.layers:
            name, weight = f"{layer}.weight", _weight(model, layer)
            after[name] = weight + self.product(layer, weight)
        return after

    def without_zeros(self) -> Adapters:
        """Without the groups in which B is zero throughout, which add nothing; they do not come back."""
        kept = [group for group in self.plan.groups if any(self._adds(layer) for layer in group)]
        plan = replace(self.plan, groups=tuple(kept))
        return Adapters(plan, {name: self.factors[name] for layer in plan.layers for name in plan.names(layer)})

    def _adds(self, layer: str) -> bool:
        return bool(self.factors[factor_name(layer, UP)].any())


def factor_name(layer: str, factor: str) -> str:
    """The name of a factor's weight in the adapted network."""
    return f"{layer}.{factor}.{_SLOT}.weight"


def drawn(plan: AdapterPlan, layer: str, shape: torch.Size) -> Tensor:
    """A of one layer, uniform as a linear layer of its inputs starts; `shape`: of the layer's weight."""
    generator = torch.Generator().manual_seed(derive_seed(plan.seed, "adapter", layer))
    inputs = shape[1:]
    bound = math.prod(inputs) ** -0.5
    return torch.rand(plan.rank, *inputs, generator=generator) * 2 * bound - bound


def adapted(network: nn.Module, adapters: Adapters) -> nn.Module:
    """A copy of the network with the adapters in it; what does not move requires no gradient.

    Raises SettingsError for a layer that the network does not have, or that cannot be adapted.
    """
    # It takes seconds to import, and few runs have adapters.
    from peft import LoraConfig, inject_adapter_in_model

    plan, modules = adapters.plan, dict(network.named_modules())
    for layer in plan.layers:
        if not can_be_adapted(modules.get(layer)):
            raise SettingsError(f"there is no layer {layer!r} that can have an adapter; use a plan for this network.")
    if not plan.layers:
        return copy.deepcopy(network)
    # As an expression that matches whole names: a list would match endings.
    targets = "|".join(map(re.escape, plan.layers))
    config = LoraConfig(r=plan.rank, lora_alpha=plan.scale * plan.rank, target_modules=targets, lora_dropout=0.0)  # type: ignore[arg-type]
    wrapped = inject_adapter_in_model(config, copy.deepcopy(network), adapter_name=_SLOT)
    filled = {factor_name(layer, DOWN): drawn(plan, layer, _weight_of(modules[layer]).shape) for layer in plan.layers}
    filled |= adapters.factors
    expected = {factor_name(layer, factor) for layer in plan.layers for factor in (DOWN, UP)}
    if filled.keys() != expected:
        raise CorruptModel("the adapters' factors are not those of their plan: expected exactly the ones that move.")
    try:
        wrapped.load_state_dict(filled, strict=False)
    except RuntimeError as error:
        raise CorruptModel(
            "the adapters' factors do not have the shapes that this network's layers ask for."
        ) from error
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad_(name in adapters.factors)
    return wrapped


def can_be_adapted(module: nn.Module | None) -> bool:
    """Whether a module is a linear layer, or a convolution in one or two dimensions without groups."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear)


def _weight_of(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)  # of every layer that `can_be_adapted`
    return weight


def _weight(model: State, layer: str) -> Tensor:
    try:
        return model[f"{layer}.weight"]
    except KeyError as error:
        raise SettingsError(f"the model has no layer {layer!r} with a weight; use a plan for this network.") from error


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Inside, an adapted network answers as it did before it had adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    # Switching them also changes what requires a gradient.
    asked = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(asked[name])

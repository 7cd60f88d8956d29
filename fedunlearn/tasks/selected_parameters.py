"""The part of a model that an optimiser may change, as leaves of its own.

Rows of a parameter that may not change never reach the optimiser: neither momentum nor weight decay can
move them, and nothing has to be put back after a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.selected_rows import SelectedRows, worthwhile


class _Partial(NamedTuple):
    """A parameter of which some rows may change, the leaf of those rows, and whether it gets its gradient directly."""

    parameter: nn.Parameter
    rows: Tensor
    leaf: Tensor
    direct: bool = False


class SelectedParameters:
    """A model's parameters, limited to the rows of a portion, for as long as the `with` block lasts.

    Args:
        model: changed in place by `write_back`.
        portion: rows along dimension 0 of each parameter that may change; None for everything.
        proximal_mu: weight of the pull towards `anchor` that `collect_gradients` adds; 0 for none.
        anchor: parameters by name; None for the model's present ones.

    Raises:
        SettingsError: the portion selects no parameter, or names what the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        portion: Portion | None,
        proximal_mu: float = 0.0,
        anchor: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._gradients_wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._mu = proximal_mu
        self._partial: list[_Partial] = []
        self._layers: list[SelectedRows] = []
        self.leaves: list[Tensor] = []
        self._anchors: list[Tensor] = []
        self.moving: set[nn.Parameter] = set()
        """The parameters of which something may change."""
        rows_of = rows_by_parameter(model, portion)
        for name, parameter in model.named_parameters():
            rows = rows_of[name]
            selected = parameter.requires_grad and (rows is None or len(rows) > 0)
            parameter.requires_grad_(selected)
            parameter.grad = None
            if not selected:
                continue
            self.moving.add(parameter)
            start = (anchor[name] if anchor is not None else parameter).detach()
            if rows is None or len(rows) == len(parameter):
                self.leaves.append(parameter)
            else:
                leaf = parameter.detach().index_select(0, rows)
                self._partial.append(_Partial(parameter, rows, leaf))
                self.leaves.append(leaf)
                start = start.index_select(0, rows)
            if proximal_mu:
                self._anchors.append(start.clone())
        if not self.leaves:
            self._give_back()
            raise SettingsError(
                "the portion selects no parameter of the model, so that nothing is trained; select one."
            )
        self._find_layers(model)
        self.compute_selected_rows_only()

    @property
    def some_are_frozen(self) -> bool:
        """Whether part of the model, a row or a whole parameter, may not change."""
        return bool(self._partial) or len(self.moving) < len(self._gradients_wanted)

    def compute_selected_rows_only(self) -> None:
        """Let layers compute no more than the gradients of the leaves, where that is quicker."""
        for layer in self._layers:
            layer.attach()
        for partial in self._partial:
            partial.leaf.requires_grad_(partial.direct)
            partial.parameter.requires_grad_(not partial.direct)

    def compute_all_rows(self) -> None:
        """Let layers compute the gradient of every row of a parameter, of which `collect_gradients` takes some."""
        for layer in self._layers:
            layer.detach()
        for partial in self._partial:
            partial.leaf.requires_grad_(False)
            partial.parameter.requires_grad_(True)

    def zero_gradients(self) -> None:
        """Forget the last step's gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        for partial in self._partial:
            partial.parameter.grad = None

    def collect_gradients(self) -> None:
        """After the backward pass: give each leaf its gradient, with the proximal pull."""
        for parameter, rows, leaf, _ in self._partial:
            if parameter.requires_grad:
                leaf.grad = None if parameter.grad is None else parameter.grad.index_select(0, rows)
        if self._mu:
            for leaf, start in zip(self.leaves, self._anchors, strict=True):
                if leaf.grad is not None:
                    leaf.grad.add_(leaf.detach() - start, alpha=self._mu)

    @torch.no_grad()
    def write_back(self) -> None:
        """After the optimiser's step: put the leaves of partly selected parameters into the model."""
        for parameter, rows, leaf, _ in self._partial:
            parameter.index_copy_(0, rows, leaf)

    def __enter__(self) -> SelectedParameters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _find_layers(self, model: nn.Module) -> None:
        """The layers whose rows are computed by themselves, and whose leaves then get their gradient directly."""
        if not self._partial:
            return
        index = {id(partial.parameter): number for number, partial in enumerate(self._partial)}
        held = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        for module in model.modules():
            own = dict(module.named_parameters(recurse=False))
            weight, bias = own.get("weight"), own.get("bias")
            # A tied weight gets a gradient from elsewhere, too.
            if id(weight) not in index or any(held[id(parameter)] > 1 for parameter in own.values()):
                continue
            partial = self._partial[index[id(weight)]]
            of_bias = None if id(bias) not in index else self._partial[index[id(bias)]]
            if (
                bias is not None
                and bias in self.moving
                and (of_bias is None or not torch.equal(of_bias.rows, partial.rows))
            ):
                continue
            if not worthwhile(module, len(partial.rows)):
                continue
            self._layers.append(
                SelectedRows(module, partial.rows, partial.leaf, None if of_bias is None else of_bias.leaf)
            )
            for one in (weight, bias):
                if id(one) in index:
                    self._partial[index[id(one)]] = self._partial[index[id(one)]]._replace(direct=True)

    def _give_back(self) -> None:
        for layer in self._layers:
            layer.detach()
        for parameter, wanted in self._gradients_wanted.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


def rows_by_parameter(model: nn.Module, portion: Portion | None) -> dict[str, Tensor | None]:
    """For each parameter: None for all of its rows, or the rows, none of them for a frozen one."""
    names = [name for name, _ in model.named_parameters()]
    if portion is None:
        return dict.fromkeys(names)
    foreign = sorted(set(portion.rows) - set(model.state_dict()))
    if foreign:
        raise SettingsError(
            f"the portion names {foreign[0]!r}, which the model does not have; make it from this model."
        )
    nothing = torch.empty(0, dtype=torch.int64)
    return {name: portion.rows.get(name, nothing) for name in names}

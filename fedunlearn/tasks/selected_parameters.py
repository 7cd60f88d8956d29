"""The part of a model that an optimiser may change, as leaves of its own.

Rows of a parameter that may not change never reach the optimiser: neither momentum nor weight decay can
move them, and nothing has to be put back after a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.errors import SettingsError


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
        self._partial: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self.leaves: list[Tensor] = []
        self._anchors: list[Tensor] = []
        rows_of = _rows_by_parameter(model, portion)
        for name, parameter in model.named_parameters():
            rows = rows_of[name]
            selected = parameter.requires_grad and (rows is None or len(rows) > 0)
            parameter.requires_grad_(selected)
            parameter.grad = None
            if not selected:
                continue
            start = (anchor[name] if anchor is not None else parameter).detach()
            if rows is None:
                self.leaves.append(parameter)
            else:
                leaf = parameter.detach().index_select(0, rows)
                self._partial.append((parameter, rows, leaf))
                self.leaves.append(leaf)
                start = start.index_select(0, rows)
            if proximal_mu:
                self._anchors.append(start.clone())
        if not self.leaves:
            self._give_back()
            raise SettingsError(
                "the portion selects no parameter of the model, so that nothing is trained; select one."
            )

    def zero_gradients(self) -> None:
        """Forget the last step's gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        for parameter, _, _ in self._partial:
            parameter.grad = None

    def collect_gradients(self) -> None:
        """After the backward pass: give each leaf its gradient, with the proximal pull."""
        for parameter, rows, leaf in self._partial:
            leaf.grad = None if parameter.grad is None else parameter.grad.index_select(0, rows)
        if self._mu:
            for leaf, start in zip(self.leaves, self._anchors, strict=True):
                if leaf.grad is not None:
                    leaf.grad.add_(leaf.detach() - start, alpha=self._mu)

    @torch.no_grad()
    def write_back(self) -> None:
        """After the optimiser's step: put the leaves of partly selected parameters into the model."""
        for parameter, rows, leaf in self._partial:
            parameter.index_copy_(0, rows, leaf)

    def __enter__(self) -> SelectedParameters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        for parameter, wanted in self._gradients_wanted.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


def _rows_by_parameter(model: nn.Module, portion: Portion | None) -> dict[str, Tensor | None]:
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

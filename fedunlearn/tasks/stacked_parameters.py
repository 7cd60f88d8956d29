"""The parameters of several clients' models, one tensor for all of them, and the step that changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.tasks.selected_parameters import SelectedParameters, rows_by_parameter
from fedunlearn.tasks.training import TrainingSettings


@dataclass(frozen=True)
class _Leaf:
    """What the step changes of one parameter: all of it or rows, K x ..., with its velocity."""

    name: str
    rows: Tensor | None
    values: Tensor
    velocity: Tensor
    anchor: Tensor | None


@dataclass(frozen=True)
class Snapshot:
    """What training changes of some clients, to be compared and put back."""

    values: tuple[Tensor, ...]
    velocities: tuple[Tensor, ...]
    started: tuple[bool, ...]

    def equals(self, other: Snapshot) -> bool:
        """Whether every bit is the same."""
        pairs = zip(self.values + self.velocities, other.values + other.velocities, strict=True)
        return all(torch.equal(one, another) for one, another in pairs)


class StackedParameters:
    """Parameters of K models of one architecture, with torch's own stochastic gradient descent on them.

    Args:
        models: they are read here and written by `write_back`.
        portion: rows of each parameter that may change, as for `SelectedParameters`; None for everything.
        settings: learning rate, momentum, weight decay, proximal term (towards the models as they are now).
        device: where the tensors are kept.

    Raises:
        SettingsError: the portion selects no parameter, or names what the models do not have.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        portion: Portion | None,
        settings: TrainingSettings,
        device: torch.device | None = None,
    ) -> None:
        with SelectedParameters(models[0], portion):
            pass  # made for its checks: what cannot be trained alone cannot be trained together
        self._settings = settings
        self._started = [False] * len(models)
        self._leaves: list[_Leaf] = []
        self._all: dict[str, Tensor] = {}
        rows_of = rows_by_parameter(models[0], portion)
        parameters = [dict(model.named_parameters()) for model in models]
        for name, wanted in parameters[0].items():
            stack = torch.stack([own[name].detach() for own in parameters]).to(device)
            self._all[name] = stack
            rows = rows_of[name]
            if not wanted.requires_grad or (rows is not None and len(rows) == 0):
                continue
            rows = None if rows is None else rows.to(stack.device)
            values = stack if rows is None else stack.index_select(1, rows)
            anchor = values.clone() if settings.proximal_mu else None
            self._leaves.append(_Leaf(name, rows, values, torch.zeros_like(values), anchor))

    @property
    def trained(self) -> frozenset[str]:
        """Names of the parameters that change."""
        return frozenset(leaf.name for leaf in self._leaves)

    def values(self, clients: slice) -> dict[str, Tensor]:
        """The parameters of some clients, by name, as leaves of a graph of their own."""
        trained, values = self.trained, {}
        for name, stack in self._all.items():
            # A kernel may look at where a tensor begins: the first client's is where any tensor of torch's begins.
            some = stack[clients].detach() if clients.start == 0 else stack[clients].detach().clone()
            values[name] = some.requires_grad_(name in trained)
        return values

    @torch.no_grad()
    def step(self, clients: slice, gradients: Mapping[str, Tensor | None]) -> None:
        """One step of some clients that are all at their first step, or none of them.

        Args:
            gradients: name -> (clients x ...); None for a parameter that the loss does not depend on.
        """
        how = self._settings
        first = not self._started[clients.start]
        for leaf in self._leaves:
            gradient = gradients[leaf.name]
            if gradient is None:
                continue
            values = leaf.values[clients]
            if leaf.rows is not None:
                gradient = gradient.index_select(1, leaf.rows)
            # The order of operations is torch.optim.SGD's, so that every bit is.
            if leaf.anchor is not None:
                gradient = gradient.add(values - leaf.anchor[clients], alpha=how.proximal_mu)
            if how.weight_decay:
                gradient = gradient.add(values, alpha=how.weight_decay)
            if how.momentum:
                velocity = leaf.velocity[clients]
                gradient = velocity.copy_(gradient) if first else velocity.mul_(how.momentum).add_(gradient)
            values.add_(gradient, alpha=-how.learning_rate)
            self._write_rows(leaf, clients)
        self._started[clients] = [True] * len(self._started[clients])

    @torch.no_grad()
    def load(self, client: int, model: nn.Module) -> None:
        """Put one client's parameters into `model`."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self._all[name][client])

    def write_back(self, models: Iterable[nn.Module]) -> None:
        """Put each client's parameters into its model."""
        for client, model in enumerate(models):
            self.load(client, model)

    def snapshot(self, clients: slice) -> Snapshot:
        """A copy of all that `step` changes of some clients."""
        return Snapshot(
            tuple(leaf.values[clients].clone() for leaf in self._leaves),
            tuple(leaf.velocity[clients].clone() for leaf in self._leaves),
            tuple(self._started[clients]),
        )

    @torch.no_grad()
    def restore(self, clients: slice, snapshot: Snapshot) -> None:
        """Make some clients what they were."""
        for leaf, values, velocity in zip(self._leaves, snapshot.values, snapshot.velocities, strict=True):
            leaf.values[clients] = values
            leaf.velocity[clients] = velocity
            self._write_rows(leaf, clients)
        self._started[clients] = list(snapshot.started)

    def _write_rows(self, leaf: _Leaf, clients: slice) -> None:
        if leaf.rows is not None:
            self._all[leaf.name][clients].index_copy_(1, leaf.rows, leaf.values[clients])

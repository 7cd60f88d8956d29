"""Rapid retraining: retraining from scratch whose local steps are preconditioned by the diagonal empirical Fisher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import Average, average
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number, positive, whole
from fedunlearn.strategies.recovery import local_recipe, send_packed
from fedunlearn.strategies.retraining import from_fresh, send_fresh
from fedunlearn.tasks.training import train_locally

FIRST, SECOND, BLOCK = 0.9, 0.999, 3
"""The paper's decays of the two moving averages, and entries whose information is averaged."""
RATE = 3e-3
"""Three times the paper's, which in three rounds on a few hundred samples a client has hardly left the start."""
POWER = 0.5
DAMPING = 1e-8


@dataclass(frozen=True)
class RapidRetraining:
    """Retraining rounds with the preconditioned optimiser, every parameter moving.

    Options: `step` (3e-3; the paper's is 1e-3), `block` (3), `power` of the information that a step is divided by
    (0.5: as long steps as Adam's; 1 is the whole inverse, whose steps through weights of little information do not
    converge on small batches).
    """

    name: str = "rapid-retraining"
    source: str = (
        "Liu et al. 2022, The Right to be Forgotten in Federated Learning: An Efficient Realization with Rapid "
        "Retraining (INFOCOM, arXiv 2203.07320); reconstruction: fresh weights to start from, squared gradients of "
        "batches, the power of the information, averages that start anew in every round"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    starts_fresh: bool = True
    options: frozenset[str] = frozenset({"step", "block", "power"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds on what remains; the first starts from fresh weights."""
        make = _optimizer(settings)

        def train(work: Work) -> Reply:
            recipe = local_recipe(work.training, work.settings)
            portion = None if work.mask is None else work.portion
            result = train_locally(
                work.task, work.model, work.retain, recipe, work.generator, portion, make_optimizer=make
            )
            return work.updated(len(work.retain), loss=result.mean_loss, epochs=recipe.local_epochs)

        after = Phase("train.recover", "remaining", send_packed, train, average)
        first = replace(after, down=send_fresh, combine=Average(from_fresh))
        return [first, *[after] * (settings.rounds - 1)]


class FisherDescent(torch.optim.Optimizer):
    """w <- w - rate m / (I^power + damping), with m the mean gradient and I the information, both moving averages.

    The information of a step is the squared gradient, averaged over blocks of neighbouring entries of a tensor; I is
    the square root of the moving average of its square. Averages are corrected for their start at zero, as Adam's are.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        rate: float = RATE,
        block: int = BLOCK,
        power: float = POWER,
    ) -> None:
        """`block`: entries that share their information, 1 or more; `power`: 0 (none) to 1 (the whole inverse)."""
        super().__init__(parameters, {"rate": rate, "block": block, "power": power})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step with the gradients that are there."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    self._step(tensor, tensor.grad, self.state[tensor], group)

    def _step(self, tensor: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(steps=0, mean=torch.zeros_like(tensor), information=torch.zeros_like(tensor))
        state["steps"] += 1
        state["mean"].mul_(FIRST).add_(gradient, alpha=1 - FIRST)
        squares = block_means(gradient.square(), group["block"])
        state["information"].mul_(SECOND).addcmul_(squares, squares, value=1 - SECOND)
        mean = state["mean"] / (1 - FIRST ** state["steps"])
        information = (state["information"] / (1 - SECOND ** state["steps"])).sqrt()
        tensor.addcdiv_(mean, information.pow(group["power"]).add_(DAMPING), value=-group["rate"])


def block_means(values: Tensor, block: int) -> Tensor:
    """Each entry replaced by the mean of its block: `block` neighbours in the flattened tensor, fewer at its end."""
    flat = values.reshape(-1)
    whole = len(flat) // block * block
    means = flat[:whole].reshape(-1, block).mean(dim=1).repeat_interleave(block)
    rest = flat[whole:]
    return torch.cat([means, rest.mean().expand(len(rest)) if len(rest) else rest]).reshape(values.shape)


def _optimizer(settings: UnlearnSettings) -> Callable[[list[Tensor]], FisherDescent]:
    rate, power = positive(settings, "step", RATE), number(settings, "power", POWER, highest=1.0)
    block = whole(settings, "block", BLOCK, lowest=1)
    return lambda leaves: FisherDescent(leaves, rate, block, power)


methods.register("rapid-retraining", RapidRetraining())

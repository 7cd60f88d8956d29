"""A training step of a partly frozen model without what nobody needs, where that is seen to give the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedunlearn.tasks.channels_last import images_channels_last
from fedunlearn.tasks.device import Precision
from fedunlearn.tasks.frozen_layers import FrozenLayers, cut
from fedunlearn.tasks.selected_parameters import SelectedParameters

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]

CLOSE = {"float32": 1e-3, "bfloat16": 3e-2}
"""Both ways round differently; one that misses something is further off than this share of the gradient."""

# Architecture, and what of it moves -> whether the short way was seen to give the same there; trying takes two steps.
_seen: dict[tuple[str, ...], bool] = {}


class ShortenedModel:
    """Calls a model whose gradient is wanted for some rows of some parameters only.

    Rows that are not selected get no gradient (`selected_rows`), and what comes before the first parameter that moves
    is computed without a graph, once a sample where an epoch follows (`frozen_layers`). Before its first use with an
    architecture, both are compared with the plain way on the first batch; where they differ, the plain way is taken.

    Args:
        model: with its modules in the modes of training.
        selected: the part of it that moves.
        loss: as it will be called.
        epochs: passes over the samples.
        samples: how many there are.
        precision: in which `loss` computes.
    """

    def __init__(
        self,
        model: nn.Module,
        selected: SelectedParameters,
        loss: Loss,
        epochs: int,
        samples: int,
        precision: Precision = "float32",
    ) -> None:
        self._model = model
        self._selected = selected
        self._loss = loss
        self._epochs = epochs
        self._samples = samples
        self._precision = precision
        self._cut: FrozenLayers | None = cut(model, selected.moving)
        self._tried = False

    def for_batch(self, inputs: Callable[[], Tensor], labels: Tensor, positions: Tensor) -> tuple[nn.Module, Tensor]:
        """What to call with a batch, and the batch's inputs.

        Args:
            inputs: makes the batch's inputs.
            positions: of its samples.
        """
        batch = images_channels_last(inputs())
        if not self._tried:
            self._try(batch, labels, positions)
            if self._cut is not None and self._epochs > 1 and self._may_keep(self._cut, batch, inputs):
                self._cut.keep(self._samples)
        if self._cut is None:
            return self._model, batch
        self._cut.expect(batch, positions)
        return self._cut, batch

    def _may_keep(self, model: FrozenLayers, batch: Tensor, inputs: Callable[[], Tensor]) -> bool:
        # Inputs that are made differently every time (augmented, say) have no activations that could be kept.
        return torch.equal(batch, images_channels_last(inputs())) and model.treats_samples_alone(batch)

    def _try(self, inputs: Tensor, labels: Tensor, positions: Tensor) -> None:
        self._tried = True
        moving = sorted(name for name, one in self._model.named_parameters() if one in self._selected.moving)
        key = (self._precision, type(self._model).__module__, repr(self._model), *moving)
        if key not in _seen:
            _seen[key] = self._gives_the_same(inputs, labels, positions)
        if not _seen[key]:
            self._selected.compute_all_rows()
            self._cut = None

    def _gives_the_same(self, inputs: Tensor, labels: Tensor, positions: Tensor) -> bool:
        self._selected.compute_all_rows()
        expected = self._step(self._model, inputs, labels)
        self._selected.compute_selected_rows_only()
        if self._cut is not None:
            self._cut.expect(inputs, positions)
        try:
            found = self._step(self._cut or self._model, inputs, labels)
        except Exception:
            # The plain way works, and is taken.
            return False
        close = CLOSE[self._precision]
        return all(_close(one, another, close) for one, another in zip(expected, found, strict=True))

    def _step(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> list[Tensor | None]:
        """Losses and the leaves' gradients; nothing is left changed, random state and statistics included."""
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        with torch.random.fork_rng(devices=[]):
            self._selected.zero_gradients()
            losses = self._loss(model, inputs, labels)
            losses.mean().backward()
            self._selected.collect_gradients()
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        found = [losses.detach(), *(None if leaf.grad is None else leaf.grad.clone() for leaf in self._selected.leaves)]
        self._selected.zero_gradients()
        return found


def _close(expected: Tensor | None, found: Tensor | None, close: float) -> bool:
    if expected is None or found is None:
        return expected is found
    if expected.shape != found.shape:
        return False
    # A training that has diverged is let be.
    if not bool(torch.isfinite(expected).all()):
        return torch.equal(torch.isfinite(expected), torch.isfinite(found))
    return float((expected - found).norm()) <= close * float(expected.norm()) + 1e-6

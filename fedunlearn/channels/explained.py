"""A model prepared for attribution: its log-likelihood a sample, and a tap on every call of an observed
layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import ChannelGroup, Layout
from fedunlearn.errors import FedunlearnError, SettingsError

PerSampleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class NotSupported(FedunlearnError):
    """An attribution method cannot be computed for this model."""


class AttributionMethod(Protocol):
    """One way to score channels on a batch."""

    def __call__(self, explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores by layer (float64, one a channel), summed over the samples of the batch (N x ..., N)."""


class Explained(nn.Module):
    """A module whose forward gives the log-likelihood (minus the loss) of each sample's recorded label.

    While it is open (`with`), every call of an observed module passes through its own identity module, its
    tap. Captum is given the taps: of a module that runs twice it would otherwise see only the last call.

    Raises SettingsError if the loss does not return one value a sample, NotSupported if a layer's output does
    not have the samples first.
    """

    def __init__(self, model: nn.Module, loss: PerSampleLoss, layout: Layout, inputs: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.layout = layout
        self._calls: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        # Kept out of the module tree, so that the model's own modules are all there is to see.
        self._taps: dict[str, list[nn.Module]] = {}
        self._reached: dict[str, list[nn.Module]] = {}
        self._look(inputs[:1], labels[:1])

    def __enter__(self) -> Self:
        self._intercepting = intercepted(self.model, self.layout.groups, self._tap)
        self._intercepting.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._intercepting.__exit__(kind, error, trace)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The log-likelihood of each label, as a tensor of N."""
        self.restart()
        losses = self.loss(self.model, inputs, labels)
        if losses.shape != (len(inputs),):
            raise SettingsError(
                f"the loss returned shape {tuple(losses.shape)} for {len(inputs)} samples:"
                " it must return one value a sample (reduction='none')."
            )
        return -losses

    def restart(self) -> None:
        """Begin a forward pass: the next call of each observed module is its first."""
        self._calls = {}

    def taps(self, layer: str) -> Sequence[nn.Module]:
        """The taps of a layer that the log-likelihood depends on, in the order of its calls."""
        return self._reached[layer]

    def rows_per_sample(self, layer: str) -> int:
        """How many entries of dimension 0 of the layer's output belong to one sample (usually 1)."""
        return self._rows[layer]

    def per_sample(self, group: ChannelGroup, values: Iterable[Tensor], samples: int) -> Tensor:
        """Sum values shaped as the layer's output over space, tokens and calls to float64 of N x channels."""
        total = torch.zeros(samples, group.channels, dtype=torch.float64)
        for value in values:
            self.check_samples_first(group, value, samples)
            by_sample = value.detach().movedim(group.channel_dim, -1).reshape(samples, -1, group.channels)
            total += by_sample.sum(dim=1, dtype=torch.float64).cpu()
        return total

    def check_samples_first(self, group: ChannelGroup, output: Tensor, samples: int) -> None:
        """Refuse an output of the observed module whose first dimension is not the samples (NotSupported)."""
        if len(output) != samples * self._rows[group.layer]:
            raise NotSupported(
                f"the output of {group.observed} is {tuple(output.shape)} for {samples} samples:"
                " attribution needs samples in the first dimension, so build the model batch-first."
            )

    def _tap(self, group: ChannelGroup, output: Tensor) -> Tensor:
        call = self._calls.get(group.layer, 0)
        self._calls[group.layer] = call + 1
        taps = self._taps[group.layer]
        if call >= len(taps):
            raise NotSupported(
                f"layer {group.layer} runs more often for some samples than for others:"
                " attribution needs a model that takes the same path for all."
            )
        # Captum may put a leaf in the output's place, and an in-place activation must not write to a leaf.
        result: Tensor = taps[call](output).clone()
        return result

    def _look(self, inputs: Tensor, labels: Tensor) -> None:
        """Run one sample to see how often each layer runs, and which calls the loss depends on."""
        outputs: dict[str, list[Tensor]] = {group.layer: [] for group in self.layout.groups}

        def keep(group: ChannelGroup, output: Tensor) -> Tensor:
            kept = output if output.requires_grad else output.detach().requires_grad_()
            outputs[group.layer].append(kept)
            return kept.clone()

        with intercepted(self.model, self.layout.groups, keep), torch.enable_grad():
            likelihood = self(inputs, labels).sum()
        flat = [output for calls in outputs.values() for output in calls]
        found = torch.autograd.grad(likelihood, flat, allow_unused=True) if likelihood.requires_grad else ()
        reached = iter([gradient is not None for gradient in found] or [False] * len(flat))
        for layer, calls in outputs.items():
            self._taps[layer] = [nn.Identity() for _ in calls]
            self._reached[layer] = [tap for tap in self._taps[layer] if next(reached)]
            self._rows[layer] = len(calls[0]) if calls else 1


@contextmanager
def intercepted(
    model: nn.Module, groups: Iterable[ChannelGroup], replace: Callable[[ChannelGroup, Tensor], Tensor]
) -> Iterator[None]:
    """Let `replace` exchange the output of every call of the groups' observed modules."""
    handles = []
    try:
        for group in groups:

            def hook(_module: nn.Module, _inputs: object, output: Tensor, group: ChannelGroup = group) -> Tensor:
                return replace(group, output)

            handles.append(model.get_submodule(group.observed).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()

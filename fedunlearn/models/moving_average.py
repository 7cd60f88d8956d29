"""The exponential moving average of a network's parameters, as part of the model that a federation averages."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """Buffers that follow the parameters of a network.

    They lie in the state dict beside the parameters and are sent and averaged like these. `sources` says which
    parameter each follows, so that a channel's average belongs to the channel (`channel_layout`).

    Args:
        module: what is followed; it is not held.
        prefix: its name within the model, with the dot.
        decay: share of the average that is kept in each step, 0 to 1.
    """

    def __init__(self, module: nn.Module, prefix: str, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._names = {name: name.replace(".", "-") for name, _ in module.named_parameters()}
        self.sources = {buffer: f"{prefix}{name}" for name, buffer in self._names.items()}
        """Buffer, by its name here -> the parameter that it follows, by its name in the model."""
        for name, parameter in module.named_parameters():
            self.register_buffer(self._names[name], parameter.detach().clone())

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move a step towards the parameters as they are now."""
        for name, parameter in module.named_parameters():
            self.get_buffer(self._names[name]).lerp_(parameter, 1.0 - self.decay)

    def parameters_of(self, module: nn.Module) -> dict[str, Tensor]:
        """The averages by the names of the parameters of `module`, for `torch.func.functional_call`.

        Their gradient is the parameters': whoever moves these by it moves the averages as far (`averages_follow`).
        """
        averages = {name: self.get_buffer(buffer) for name, buffer in self._names.items()}
        if not torch.is_grad_enabled():
            return averages
        parameters = dict(module.named_parameters())
        # Plus nothing, so that the values stay the averages' to the bit.
        return {name: one + (parameters[name] - parameters[name].detach()) for name, one in averages.items()}

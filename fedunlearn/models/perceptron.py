"""A small perceptron for tables."""

from __future__ import annotations

import math

from torch import Tensor, nn

from fedunlearn.models.registered import InputShape, networks


class Perceptron(nn.Module):
    """Two hidden layers of 32 and 16 units with ReLU, each unit a channel, and the output.

    Inputs N x F; those of more dimensions are flattened. Each activation is a module, used once: DeepLIFT follows no
    others.
    """

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(math.prod(input_shape), 32)
        self.activation1 = nn.ReLU()
        self.hidden2 = nn.Linear(32, 16)
        self.activation2 = nn.ReLU()
        self.output = nn.Linear(16, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits N x classes."""
        hidden = self.activation1(self.hidden1(inputs.flatten(1)))
        logits: Tensor = self.output(self.activation2(self.hidden2(hidden)))
        return logits


networks.register("perceptron", Perceptron)

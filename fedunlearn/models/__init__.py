"""Networks by name: a factory `(input_shape, classes) -> Module` each."""

from __future__ import annotations

from fedunlearn.models import autoencoder, groupnorm_cnn, lenet, perceptron, resnet, torchvision_networks
from fedunlearn.models.registered import NetworkFactory, networks

__all__ = [
    "NetworkFactory",
    "autoencoder",
    "groupnorm_cnn",
    "lenet",
    "networks",
    "perceptron",
    "resnet",
    "torchvision_networks",
]

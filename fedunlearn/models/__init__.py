"""Networks by name: a factory `(input_shape, classes) -> Module` each."""

from __future__ import annotations

from fedunlearn.models import (
    autoencoder,
    diffusion,
    groupnorm_cnn,
    lenet,
    perceptron,
    resnet,
    torchvision_networks,
    vq_gan,
)
from fedunlearn.models.registered import NetworkFactory, networks

__all__ = [
    "NetworkFactory",
    "autoencoder",
    "diffusion",
    "groupnorm_cnn",
    "lenet",
    "networks",
    "perceptron",
    "resnet",
    "torchvision_networks",
    "vq_gan",
]

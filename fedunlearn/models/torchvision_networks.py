"""torchvision's own ResNet-18, VGG-11 and vision transformer, fitted to the inputs; 32x32 pixels and up."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from fedunlearn.errors import SettingsError
from fedunlearn.models.registered import InputShape, networks, require_size

Network = TypeVar("Network", bound=nn.Module)

SMALLEST = 32
VIT_LAYERS = 6
VIT_HEADS = 4
VIT_WIDTH = 128
VIT_FEED_FORWARD = 256
VIT_PATCHES_PER_SIDE = 8


def resnet18(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's ResNet-18 (He et al., 2016), untrained, fitted to the number of input channels."""
    from torchvision import models

    require_size("resnet18", input_shape, SMALLEST)
    network = _without_inplace(models.resnet18(weights=None, num_classes=classes))
    if input_shape[0] != 3:
        network.conv1 = nn.Conv2d(input_shape[0], 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def vgg11(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's VGG-11 (Simonyan and Zisserman, 2015), untrained, without batch normalisation.

    Its two hidden layers have 4,096 units: 129 million parameters.
    """
    from torchvision import models

    require_size("vgg11", input_shape, SMALLEST)
    network = _without_inplace(models.vgg11(weights=None, num_classes=classes))
    if input_shape[0] != 3:
        network.features[0] = nn.Conv2d(input_shape[0], 64, 3, padding=1)
        nn.init.kaiming_normal_(network.features[0].weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(network.features[0].bias)
    return network


def vit(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's vision transformer (Dosovitskiy et al., 2021), untrained and small.

    6 layers, 4 heads, width 128, feed-forward 256, no dropout; patches are an eighth of the side: 4x4 pixels
    for 32x32 images, always 64 tokens and the class token. Images must be square, their side a multiple of 8.
    """
    from torchvision import models

    require_size("vit", input_shape, SMALLEST)
    channels, height, width = input_shape
    if height != width or height % VIT_PATCHES_PER_SIDE:
        raise SettingsError(
            f"network 'vit' needs square images with a side that is a multiple of {VIT_PATCHES_PER_SIDE}, "
            f"and these are {height}x{width}; choose another network."
        )
    patch = height // VIT_PATCHES_PER_SIDE
    network = models.VisionTransformer(
        image_size=height,
        patch_size=patch,
        num_layers=VIT_LAYERS,
        num_heads=VIT_HEADS,
        hidden_dim=VIT_WIDTH,
        mlp_dim=VIT_FEED_FORWARD,
        num_classes=classes,
    )
    # torchvision starts the head at zero and scales the patch projection by its fan-in for three channels.
    nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, VIT_WIDTH, patch, stride=patch)
        nn.init.trunc_normal_(network.conv_proj.weight, std=(channels * patch * patch) ** -0.5)
        nn.init.zeros_(network.conv_proj.bias)
    return network


def _without_inplace(network: Network) -> Network:
    """Attribution reads a layer's output, which an activation in place would overwrite."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


networks.register("resnet18", resnet18)
networks.register("vgg11", vgg11)
networks.register("vit", vit)

"""torchvision's own ResNet-18, VGG-11 and vision transformers, fitted to the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from fedunlearn.errors import SettingsError
from fedunlearn.models.registered import InputShape, networks, require_size

Network = TypeVar("Network", bound=nn.Module)

SMALLEST = 32


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
    require_size("vit", input_shape, SMALLEST)
    return _transformer("vit", input_shape, classes, input_shape[1] // 8, 8, Size(6, 4, 128, 256))


def vit_small(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's vision transformer, smaller yet: 205,066 parameters for 28x28 grey images and ten classes.

    4 layers, 4 heads, width 64, feed-forward 256; patches are a quarter of the side: 7x7 pixels for 28x28 images,
    always 16 tokens and the class token. Images must be square, their side a multiple of 4 and at least 8.
    """
    require_size("vit-small", input_shape, 8)
    return _transformer("vit-small", input_shape, classes, input_shape[1] // 4, 4, Size(4, 4, 64, 256))


def vit_medium(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's vision transformer in the size of GS-LoRA's face model: 19 million parameters, for a GPU.

    6 layers, 8 heads, width 512, feed-forward 2,048; patches of 4x4 pixels, of 8x8 from 64 pixels on (196 tokens for
    112x112 images). Images must be square, their side a multiple of the patch's.
    """
    require_size("vit-medium", input_shape, 8)
    patch = 4 if input_shape[1] < 64 else 8
    return _transformer("vit-medium", input_shape, classes, patch, patch, Size(6, 8, 512, 2048))


def vit_b_16(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's ViT-B/16, untrained: 12 layers, 12 heads, width 768, feed-forward 3,072, patches of 16x16 pixels.

    86 million parameters. Its pre-trained weights fit images of 224x224 pixels.
    """
    require_size("vit-b-16", input_shape, SMALLEST)
    return _transformer("vit-b-16", input_shape, classes, 16, 16, Size(12, 12, 768, 3072))


@dataclass(frozen=True)
class Size:
    """How large a transformer is."""

    layers: int
    heads: int
    width: int
    feed_forward: int


def _transformer(name: str, input_shape: InputShape, classes: int, patch: int, multiple: int, size: Size) -> nn.Module:
    """One without dropout. Raises SettingsError where images are not square, or their side no `multiple`."""
    from torchvision import models

    channels, height, width = input_shape
    if height != width or height % multiple:
        raise SettingsError(
            f"network {name!r} needs square images with a side that is a multiple of {multiple}, "
            f"and these are {height}x{width}; choose another network."
        )
    network = models.VisionTransformer(
        image_size=height,
        patch_size=patch,
        num_layers=size.layers,
        num_heads=size.heads,
        hidden_dim=size.width,
        mlp_dim=size.feed_forward,
        num_classes=classes,
    )
    # torchvision starts the head at zero and scales the patch projection by its fan-in for three channels.
    nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, size.width, patch, stride=patch)
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
networks.register("vit-small", vit_small)
networks.register("vit-medium", vit_medium)
networks.register("vit-b-16", vit_b_16)

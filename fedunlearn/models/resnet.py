"""ResNet-20 for small images (He et al., 2016, section 4.2) with group instead of batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from fedunlearn.models.registered import InputShape, networks, require_size

WIDTHS = (16, 32, 64)
BLOCKS_PER_STAGE = 3
GROUPS = 8


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm and a shortcut; a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, width)
        self.activation1 = nn.ReLU()
        self.convolution2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.activation2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.GroupNorm(GROUPS, width)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """N x width x H/stride x W/stride."""
        maps = self.activation1(self.norm1(self.convolution1(inputs)))
        maps = self.norm2(self.convolution2(maps))
        return self.activation2(maps + self.shortcut(inputs))


class ResNet20(nn.Module):
    """Three stages of three residual blocks (16, 32, 64 channels), mean over space, output.

    Inputs N x C x H x W of at least 8x8. The shortcut where the shape changes is a 1x1 convolution
    (option B of the paper).
    """

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        require_size("resnet20", input_shape, 8)
        self.stem = nn.Sequential(
            nn.Conv2d(input_shape[0], WIDTHS[0], 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, WIDTHS[0]),
            nn.ReLU(),
        )
        blocks: list[nn.Module] = []
        before = WIDTHS[0]
        for width in WIDTHS:
            for number in range(BLOCKS_PER_STAGE):
                blocks.append(ResidualBlock(before, width, 2 if number == 0 and width != WIDTHS[0] else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(before, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits N x classes."""
        return self.output(self.blocks(self.stem(inputs)).mean(dim=(2, 3)))


networks.register("resnet20", ResNet20)

"""Encoder and decoder over volumes whose slices lie far apart: depth is never down-sampled."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.networks.volume_conv import VolumeConv

N_GROUPS = 4
NEGATIVE_SLOPE = 0.01
POOL = (1, 2, 2)
MIN_SIZE = 8
"""In x and y: what three poolings need."""


def check_size(image: Tensor) -> None:
    """Refuse volumes (batch, channel, z, x, y) that pooling would leave nothing of.

    Raises
    ------
    ValueError
        If x or y is below ``MIN_SIZE``.
    """
    if min(image.shape[3:]) < MIN_SIZE:
        z, x, y = image.shape[2:]
        raise ValueError(
            f"a volume of {z}×{x}×{y} (z, x, y) is too small for the network: x and y at least {MIN_SIZE}"
        )


class ConvBlock(nn.Module):
    """Convolution in the slice, then one across slices, each with group norm (4) and LeakyReLU(0.01).

    Parameters
    ----------
    in_channels, middle_channels, out_channels : int
        Before, between and after the kernels (1, 3, 3) and (3, 3, 3); the last two multiples of 4.
    """

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = VolumeConv(in_channels, middle_channels, (1, 3, 3))
        self.norm1 = nn.GroupNorm(N_GROUPS, middle_channels)
        self.conv2 = VolumeConv(middle_channels, out_channels, (3, 3, 3))
        self.norm2 = nn.GroupNorm(N_GROUPS, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, z, x, y), sizes kept."""
        x = F.leaky_relu(self.norm1(self.conv1(x)), NEGATIVE_SLOPE, inplace=True)
        return F.leaky_relu(self.norm2(self.conv2(x)), NEGATIVE_SLOPE, inplace=True)


class Encoder(nn.Module):
    """Four blocks of w, 2w, 4w and 8w channels, in-plane max-pooling between them.

    Parameters
    ----------
    in_channels : int
        Of the image.
    width : int
        w, a multiple of 8.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.block1 = ConvBlock(in_channels, width // 2, width)
        self.block2 = ConvBlock(width, width, 2 * width)
        self.block3 = ConvBlock(2 * width, 2 * width, 4 * width)
        self.block4 = ConvBlock(4 * width, 4 * width, 8 * width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each block's features, finest first, the last (batch, 8w, z, x // 8, y // 8)."""
        first = self.block1(image)
        second = self.block2(F.max_pool3d(first, POOL))
        third = self.block3(F.max_pool3d(second, POOL))
        return first, second, third, self.block4(F.max_pool3d(third, POOL))


class Decoder(nn.Module):
    """Three times: transposed convolution, the encoder's features of that size beside it, a block.

    Parameters
    ----------
    in_channels : int
        At the bottleneck.
    width : int
        w of the encoder that the skip connections come from.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose3d(in_channels, 8 * width, POOL, stride=POOL)
        self.block1 = ConvBlock(12 * width, 4 * width, 4 * width)
        self.up2 = nn.ConvTranspose3d(4 * width, 4 * width, POOL, stride=POOL)
        self.block2 = ConvBlock(6 * width, 2 * width, 2 * width)
        self.up3 = nn.ConvTranspose3d(2 * width, 2 * width, POOL, stride=POOL)
        self.block3 = ConvBlock(3 * width, width, width)

    def forward(self, bottleneck: Tensor, skips: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Features (batch, w, z, x, y) from the bottleneck and the encoder's first three features."""
        first, second, third = skips
        x = self.block1(_beside(third, self.up1(bottleneck)))
        x = self.block2(_beside(second, self.up2(x)))
        features: Tensor = self.block3(_beside(first, self.up3(x)))
        return features


def heads_of(width: int, heads: Mapping[str, int]) -> nn.ModuleDict:
    """Logits from the decoder's features: a 1×1×1 convolution for each list of classes.

    Parameters
    ----------
    heads : mapping of str to int
        Name of a head -> length of its list of classes, background included.
    """
    return nn.ModuleDict({name: nn.Conv3d(width, n, 1) for name, n in heads.items()})


def _beside(skip: Tensor, up: Tensor) -> Tensor:
    """Both in one; zeros where pooling had cut the last row or column of an odd size."""
    missing = [size - has for size, has in zip(skip.shape[3:], up.shape[3:], strict=True)]
    return torch.cat([skip, F.pad(up, (0, missing[1], 0, missing[0]))], dim=1)

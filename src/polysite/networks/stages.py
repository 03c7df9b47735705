"""The stages that a generator is built of."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.networks.borders import reflect
from polysite.networks.dropout import Dropout
from polysite.networks.norm import NormKind, norm
from polysite.networks.to_image import convolve_to_one


class Stage(nn.Module):
    """Convolution, norm, ReLU.

    Parameters
    ----------
    convolution : nn.Module
        Without bias: the norm has one.
    out_channels : int
        Of the convolution.
    norm_kind : {"batch", "instance", "group"}
        The norm.
    pad : int
        Width of the mirrored border added before the convolution.
    """

    def __init__(
        self, convolution: nn.Module, out_channels: int, norm_kind: NormKind, *, pad: int = 0
    ) -> None:
        super().__init__()
        self.conv = convolution
        self.norm = norm(norm_kind, out_channels)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, x, y)."""
        return F.relu(self.norm(self.conv(reflect(x, self.pad))), inplace=True)


class ResidualBlock(nn.Module):
    """``x + F(x)`` with no ReLU after the sum; dropout between the two convolutions of F."""

    def __init__(self, channels: int, norm_kind: NormKind, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm1 = norm(norm_kind, channels)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm2 = norm(norm_kind, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, x, y), all kept."""
        y = F.relu(self.norm1(self.conv1(reflect(x, 1))), inplace=True)
        return x + cast(Tensor, self.norm2(self.conv2(reflect(self.dropout(y), 1))))


class OutStage(nn.Module):
    """Back to one image, float32 in (-1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channel, x, y) to (batch, 1, x, y)."""
        bias = cast(Tensor, self.conv.bias)
        return torch.tanh(convolve_to_one(reflect(x, 3), self.conv.weight, bias))

"""PatchGAN: is each 70×70 patch of a target slice real, given the source slice?"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.config.base import Section
from polysite.networks.norm import NormKind, norm

NEGATIVE_SLOPE = 0.2
MIN_SIZE = 24


class Discriminator(nn.Module):
    """Five 4×4 convolutions over source and target, a score for every 70×70 patch.

    Widths w, 2w, 4w (stride 2), 8w and 1 (stride 1), norm on the middle three, LeakyReLU(0.2).

    Parameters
    ----------
    settings : Discriminator.Settings
        Width and norm.
    in_channels : int
        Channels of source and target together.

    References
    ----------
    Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017.
    """

    class Settings(Section):
        """Settings of a discriminator."""

        width: int = Field(default=64, ge=1)
        norm: NormKind = "batch"

    def __init__(self, settings: Settings, *, in_channels: int = 2) -> None:
        super().__init__()
        width = settings.width
        self.conv1 = nn.Conv2d(in_channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False)
        self.norm2 = norm(settings.norm, 2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False)
        self.norm3 = norm(settings.norm, 4 * width)
        self.conv4 = nn.Conv2d(4 * width, 8 * width, 4, stride=1, padding=1, bias=False)
        self.norm4 = norm(settings.norm, 8 * width)
        self.conv5 = nn.Conv2d(8 * width, 1, 4, stride=1, padding=1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Scores (batch, 1, x/8 - 2, y/8 - 2), float32, of a source and a target (batch, channel, x, y).

        Raises
        ------
        ValueError
            If a side is below 24, where no patch is left.
        """
        if min(source.shape[2:]) < MIN_SIZE:
            x, y = source.shape[2:]
            raise ValueError(f"a slice of {x}×{y} is too small for the discriminator: at least {MIN_SIZE}")
        h = _leaky(self.conv1(torch.cat([source, target], dim=1)))
        h = _leaky(self.norm2(self.conv2(h)))
        h = _leaky(self.norm3(self.conv3(h)))
        h = _leaky(self.norm4(self.conv4(h)))
        scores: Tensor = self.conv5(h)
        return scores.float()


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)

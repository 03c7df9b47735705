"""The norms that a network can be built with."""

from math import gcd
from typing import Literal

from torch import nn

NormKind = Literal["batch", "instance", "group"]

MAX_GROUPS = 32


def norm(kind: NormKind, channels: int) -> nn.Module:
    """A norm over feature maps, with learnt scale and shift.

    Batch norm keeps running statistics and uses them in evaluation mode; instance and group norm keep
    none and treat every sample alone. Group norm takes the largest number of groups up to 32 that divides
    the channels (Wu and He, "Group normalization", ECCV 2018).
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(gcd(MAX_GROUPS, channels), channels)

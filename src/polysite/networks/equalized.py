"""Equalised linear layer: the scale of the initial weights is applied while the network runs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EqualizedLinear(nn.Module):
    """``y = (c_w W) x + c_b b``: ``c_w = gain · lr_multiplier / sqrt(fan_in)``, ``c_b = lr_multiplier``.

    W is stored as N(0, 1/lr_multiplier), so that the product ``c_w W`` starts with the standard deviation
    ``gain / sqrt(fan_in)``, while an optimiser that ignores the scale of gradients (Adam) moves the
    effective weight ``lr_multiplier`` times more slowly. Whoever overwrites the stored W with a small
    standard deviation kills the layer: see :mod:`polysite.networks.initialise`.

    Parameters
    ----------
    in_features, out_features : int
        Length of x and of y.
    gain : float
        sqrt(2) before a rectifier, 1 otherwise.
    lr_multiplier : float
        In (0, 1].

    References
    ----------
    Karras et al., "A style-based generator architecture for GANs", CVPR 2019, section 2 and appendix C.
    """

    def __init__(
        self, in_features: int, out_features: int, *, gain: float = 1.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.stored_std = 1 / lr_multiplier
        self.weight_scale = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_scale = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, in_features) to (batch, out_features)."""
        # scaling x instead of W is the same product, and x is the smaller of the two
        return F.linear(x * self.weight_scale, self.weight, self.bias * self.bias_scale)

"""The mapper: from who asks and what is asked for to one latent vector a sample."""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.networks.equalized import EqualizedLinear

MAPPER_LR_MULTIPLIER = 0.01
NEGATIVE_SLOPE = 0.2


def one_hot_codes(site: Tensor, source: Tensor, target: Tensor, *, n_sites: int, n_contrasts: int) -> Tensor:
    """``[site | source | target]``, each one-hot.

    Parameters
    ----------
    site, source, target : Tensor
        (batch,) int64; sites in [0, n_sites), contrasts in [0, n_contrasts).

    Returns
    -------
    Tensor
        (batch, n_sites + 2 n_contrasts) float32.

    Examples
    --------
    >>> zero, one = torch.tensor([0]), torch.tensor([1])
    >>> one_hot_codes(one, zero, one, n_sites=2, n_contrasts=2)
    tensor([[0., 1., 1., 0., 0., 1.]])
    """
    parts = [F.one_hot(site, n_sites), F.one_hot(source, n_contrasts), F.one_hot(target, n_contrasts)]
    return torch.cat(parts, dim=1).to(torch.float32)


class Mapper(nn.Module):
    """Fully connected layers from a code to the latent, LeakyReLU(0.2) after each, the last too.

    Parameters
    ----------
    n_codes : int
        Length of the code.
    latent : int
        Length of every layer's output.
    depth : int
        Number of layers.
    kind : {"equalised", "plain"}
        Equalised layers with learning-rate multiplier 0.01 (the paper), or ordinary linear layers, which
        start with the same distribution but learn a hundred times as fast.
    """

    def __init__(
        self, n_codes: int, latent: int, *, depth: int = 6, kind: Literal["equalised", "plain"] = "equalised"
    ) -> None:
        super().__init__()
        widths = [n_codes] + [latent] * depth
        self.layers = nn.ModuleList(
            EqualizedLinear(a, b, gain=math.sqrt(2), lr_multiplier=MAPPER_LR_MULTIPLIER)
            if kind == "equalised"
            else nn.Linear(a, b)
            for a, b in pairwise(widths)
        )

    def forward(self, code: Tensor) -> Tensor:
        """From (batch, n_codes) to (batch, latent)."""
        for layer in self.layers:
            code = F.leaky_relu(layer(code), NEGATIVE_SLOPE)
        return code

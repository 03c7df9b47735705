"""Attention between the voxels of two feature maps."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(Q Kᵀ / sqrt(d)) V``, every voxel a token, one head; never the whole token × token matrix.

    Parameters
    ----------
    query, key, value : Tensor
        (batch, d, z, x, y); key and value of one size, query of any.

    Returns
    -------
    Tensor
        (batch, d, z, x, y) of the query's size: each voxel a convex combination of the values' voxels.

    Examples
    --------
    A query that is orthogonal to every key weighs all voxels alike:

    >>> import torch
    >>> value = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 1, 3, 1, 1)
    >>> attend(torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 3, 1, 1), value).item()
    3.0
    """
    mixed = F.scaled_dot_product_attention(_tokens(query), _tokens(key), _tokens(value))
    return mixed[:, 0].transpose(1, 2).reshape(query.shape[0], value.shape[1], *query.shape[2:])


def _tokens(x: Tensor) -> Tensor:
    """(batch, head, token, d): transposed, because a mere reshape mixes channels and voxels."""
    return x.flatten(2).transpose(1, 2)[:, None]


class Attention(nn.Module):
    """Projections to query, key and value of half the channels, attention, projection back.

    Parameters
    ----------
    channels : int
        Of both feature maps; even.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv3d(channels, channels // 2, 1)
        self.key = nn.Conv3d(channels, channels // 2, 1)
        self.value = nn.Conv3d(channels, channels // 2, 1)
        self.out = nn.Conv3d(channels // 2, channels, 1)

    def forward(self, asks: Tensor, answers: Tensor) -> Tensor:
        """What ``asks`` (the query) finds in ``answers`` (keys and values), both (batch, channel, z, x, y)."""
        return cast(Tensor, self.out(attend(self.query(asks), self.key(answers), self.value(answers))))

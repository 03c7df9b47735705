"""Clipping: a change as a whole is made no longer than a given norm, its direction kept.

It bounds what one site can do to the average in one round. It is the last stage before rounding, because noise for
differential privacy would have to come between both: after a bound that nothing exceeds, before a rounding that then
is nothing but post-processing. There is no such noise here.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

BELOW = 1 - 2**-22
"""Rounding each product to float32 could otherwise bring the norm above the bound, by at most 2^-23 of it."""


def norm_of(tensors: Mapping[str, Tensor]) -> float:
    """The L2 norm over all values of all tensors, summed in float64.

    >>> norm_of({"a": torch.tensor([3.0]), "b": torch.tensor([0.0, 4.0])})
    5.0
    """
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors.values()]
    return math.hypot(*map(float, norms))


def clipped(change: Mapping[str, Tensor], most: float) -> dict[str, Tensor]:
    """The change, scaled down where its norm is above ``most``; else as it is.

    What is not finite does not become so: a training that diverged must be noticed.

    >>> clipped({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, 10.0)
    {'a': tensor([3.]), 'b': tensor([4.])}
    """
    norm = norm_of(change)
    if norm <= most:
        return dict(change)
    return {name: tensor * (most / norm * BELOW) for name, tensor in change.items()}

"""A convolution to a single channel, as a matrix product and a sum of shifted planes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve_to_one(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv2d(x, weight, bias)`` for one output channel, summed in float32.

    Convolution kernels compute 16 or more output channels at once and waste all but one here: on the CPU
    the k×k products of every place are a matrix product instead, and the output is their sum along the
    kernel's shifts (in bfloat16 the last stage of a full-size generator takes 8 ms a step instead of 40).

    Parameters
    ----------
    x : Tensor
        (batch, channel, x, y).
    weight : Tensor
        (1, channel, k, k).
    bias : Tensor
        (1,).

    Returns
    -------
    Tensor
        (batch, 1, x - k + 1, y - k + 1) float32 (float64 if x is).
    """
    if x.device.type != "cpu":
        y = F.conv2d(x, weight, bias)
        return y.to(torch.promote_types(y.dtype, torch.float32))
    kernel = weight.shape[-1]
    products = torch.matmul(weight[0].flatten(1).t(), x.flatten(2))
    products = products.view(x.shape[0], kernel, kernel, *x.shape[2:])
    image: Tensor = _SumOfShifted.apply(products)  # type: ignore[no-untyped-call]
    return image + bias


def _diagonal(products: Tensor) -> Tensor:
    """The view ``v[b, i, j, x, y] = products[b, i, j, x + i, y + j]``."""
    batch, kernel, _, x, y = products.shape
    s0, s1, s2, s3, s4 = products.stride()
    shape = (batch, kernel, kernel, x - kernel + 1, y - kernel + 1)
    return products.as_strided(shape, (s0, s1 + s3, s2 + s4, s3, s4))


class _SumOfShifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, products: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = products.shape, products.dtype
        dtype = torch.promote_types(products.dtype, torch.float32)
        return _diagonal(products).sum(2, dtype=dtype).sum(1)[:, None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        products = grad.new_zeros(ctx.shape, dtype=ctx.dtype)
        _diagonal(products).copy_(grad[:, :, None])
        return products

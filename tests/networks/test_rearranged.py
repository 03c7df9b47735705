"""Rearranged computations against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from polysite.networks.borders import reflect
from polysite.networks.to_image import convolve_to_one


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("size", [(4, 4), (4, 9), (16, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_mirrored_borders_and_their_gradient(pad, size, memory_format):
    x = random(2, 3, *size).contiguous(memory_format=memory_format).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    y, expected = reflect(x, pad), F.pad(twin, (pad,) * 4, mode="reflect")
    assert torch.equal(y, expected)
    upstream = random(*y.shape, seed=1)
    y.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, twin.grad)


def test_mirrored_borders_stay_bfloat16_under_autocast():
    x = torch.rand(1, 2, 6, 6).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = reflect(x, 1)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolution_to_one_channel_and_its_gradients(kernel):
    values = random(2, 5, 9, 11), random(1, 5, kernel, kernel, seed=1), random(1, seed=2)
    leaves = [value.clone().requires_grad_() for value in values]
    twins = [value.clone().requires_grad_() for value in values]
    y, expected = convolve_to_one(*leaves), F.conv2d(*twins)
    torch.testing.assert_close(y, expected)
    upstream = random(*y.shape, seed=3)
    y.backward(upstream)
    expected.backward(upstream)
    for leaf, twin in zip(leaves, twins, strict=True):
        torch.testing.assert_close(leaf.grad, twin.grad)


def test_convolution_to_one_channel_sums_in_float32_under_autocast():
    x, weight, bias = random(1, 64, 20, 20).float(), random(1, 64, 7, 7, seed=1).float(), torch.zeros(1)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve_to_one(x, weight, bias)
        usual = F.conv2d(x, weight, bias)
    exact = F.conv2d(x, weight, bias)
    assert y.dtype == torch.float32
    assert (y - exact).abs().mean() < 1.2 * (usual - exact).abs().mean()

"""STIN and STCA against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from polysite.networks.equalized import EqualizedLinear
from polysite.networks.initialise import initialise
from polysite.networks.mapper import Mapper, one_hot_codes
from polysite.networks.personalization import PersonalizationBlock, modulate


def test_equalised_linear_by_hand():
    layer = EqualizedLinear(4, 2, gain=math.sqrt(2), lr_multiplier=0.01)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[100.0, 0, 0, 0], [100, 100, 100, 100]]))
        layer.bias.copy_(torch.tensor([0.0, 300]))
    y = layer(torch.tensor([[1.0, 2, 3, 4]]))
    root = math.sqrt(2) / 2
    torch.testing.assert_close(y, torch.tensor([[root, 10 * root + 3]]))


def test_codes_are_concatenated_one_hots():
    code = one_hot_codes(
        torch.tensor([1, 0]), torch.tensor([0, 2]), torch.tensor([2, 1]), n_sites=2, n_contrasts=3
    )
    assert code.tolist() == [[0, 1, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0, 1, 0]]


def test_mapper_ends_with_a_rectifier():
    mapper = Mapper(2, 3, depth=1, kind="plain")
    with torch.no_grad():
        mapper.layers[0].weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 5]]))
        mapper.layers[0].bias.zero_()
    torch.testing.assert_close(mapper(torch.tensor([[2.0, 0]])), torch.tensor([[2.0, -0.4, 0]]))


def test_modulation_by_hand():
    # mean 4, variance 5 (of the population)
    x = torch.tensor([[1.0, 3], [5, 7]]).expand(1, 2, 2, 2).clone()
    unit = (x[0, 0] - 4) / math.sqrt(5 + 1e-5)
    y = modulate(x, torch.tensor([[0.5, -1]]), torch.tensor([[2.0, 3]]), torch.tensor([[0.25, 0.5]]))
    torch.testing.assert_close(y[0, 0], 0.25 * (1.5 * unit + 2))
    torch.testing.assert_close(y[0, 1], torch.full((2, 2), 1.5))


def test_modulation_is_the_formula_per_sample_forward_and_backward():
    stream = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(3, 4, 6, 5, generator=stream),
        *(torch.randn(3, 4, generator=stream) for _ in range(3)),
    ]
    upstream = torch.randn(3, 4, 6, 5, generator=stream)

    def formula(x, gamma, beta, attention):
        gamma, beta, attention = (value[:, :, None, None] for value in (gamma, beta, attention))
        return attention * ((1 + gamma) * F.instance_norm(x, eps=1e-5) + beta)

    results = []
    for function in (modulate, formula):
        leaves = [value.clone().requires_grad_() for value in inputs]
        y = function(*leaves)
        y.backward(upstream)
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 8, 8)])
def test_modulation_does_not_care_for_the_memory_format(shape):
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=stream)
    constants = [torch.randn(shape[:2], generator=stream) for _ in range(3)]
    last = modulate(x.contiguous(memory_format=torch.channels_last), *constants)
    torch.testing.assert_close(last, modulate(x, *constants))


def test_attention_does_not_see_the_features_and_lies_between_0_and_1():
    block = PersonalizationBlock(16, 8)
    initialise(block, torch.Generator().manual_seed(0))
    latent = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    gamma, beta, attention = block.constants(latent)
    assert gamma.shape == beta.shape == attention.shape == (2, 16)
    by_hand = torch.sigmoid(F.relu(latent @ block.squeeze.weight.T) @ block.excite.weight.T)
    torch.testing.assert_close(attention, by_hand)
    torch.testing.assert_close(torch.cat([gamma, beta], 1), latent @ block.stin.weight.T / math.sqrt(8))
    x = torch.rand(2, 16, 5, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(block(3 * x + 7, latent), block(x, latent), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("channels", "inner"), [(1, 1), (7, 1), (8, 1), (64, 8)])
def test_attention_is_an_eighth_as_wide_but_at_least_one(channels, inner):
    block = PersonalizationBlock(channels, 4)
    assert block.squeeze.out_features == inner
    assert block.squeeze.bias is None
    assert block.excite.bias is None

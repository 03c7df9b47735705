"""Dropout: exact rate and scale, its own stream, the same numbers for the same seed."""

import copy

import pytest
import torch
from torch import nn

from polysite.networks.dropout import Dropout, seed_dropout


@pytest.mark.parametrize("p", [0.5, 0.1, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_and_scale(p, dtype):
    y = Dropout(p)(torch.ones(1_000_003, dtype=dtype))
    kept = torch.tensor(1 / (1 - p), dtype=dtype)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) == {0.0, kept.item()}
    rate = (y == 0).double().mean().item()
    assert rate == pytest.approx(p, abs=5 * (p * (1 - p) / 1e6) ** 0.5)


def test_every_bit_of_a_word_is_a_fair_coin_of_its_own():
    y = Dropout(0.5)(torch.ones(64 * 10_000)).reshape(-1, 64) / 2
    assert (y.mean(0) - 0.5).abs().max() < 5 * 0.5 / 100
    neighbours = (y[:, 1:] * y[:, :-1]).mean(0)
    assert (neighbours - 0.25).abs().max() < 5 * 0.4331 / 100


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_same_seed_same_numbers_whatever_the_threads(p):
    x = torch.ones(3, 8, 33, 33)
    layer = Dropout(p)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        layer.seed(11)
        results.append((layer(x), layer(x)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(*results[0])
    layer.seed(12)
    assert not torch.equal(layer(x), results[0][0])


def test_samples_of_a_batch_are_independent():
    y = Dropout(0.5)(torch.ones(2, 40_000)) - 1
    assert (y[0] * y[1]).mean().abs() < 5 / 200


def test_evaluation_and_p_zero_are_the_identity():
    x = torch.rand(5, 7)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_gradient_passes_where_values_pass():
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_global_stream_is_left_alone():
    before = torch.get_rng_state()
    Dropout(0.5)(torch.ones(100))
    Dropout(0.3)(torch.ones(100))
    assert torch.equal(before, torch.get_rng_state())


def test_seeding_a_model_gives_every_layer_a_stream_of_its_own():
    model = nn.Sequential(Dropout(0.5), nn.Sequential(Dropout(0.5)))
    x = torch.ones(1000)
    seed_dropout(model, 2**62 + 5)
    first, second = model[0](x), model[1][0](x)
    assert not torch.equal(first, second)
    seed_dropout(model, 2**62 + 5)
    assert torch.equal(model[1][0](x), second)
    assert torch.equal(model[0](x), first)


def test_a_copy_goes_on_from_where_its_original_was():
    layer = Dropout(0.5)
    x = torch.ones(1000)
    layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(layer(x), twin(x))


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_probability_out_of_range(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Dropout(p)

"""Initial weights: their distributions, their source, and that the latent is alive."""

import pytest
import torch
from torch import nn

from polysite.networks.equalized import EqualizedLinear
from polysite.networks.generator import Generator
from polysite.networks.initialise import initialise


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_stream_same_weights_and_the_global_stream_is_left_alone(make):
    network = make(seed=4)
    before = torch.get_rng_state()
    initialise(network, stream(9))
    assert torch.equal(before, torch.get_rng_state())
    other = make(seed=9)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    different = make(seed=4).state_dict()
    assert not torch.equal(different["out.conv.weight"], other.state_dict()["out.conv.weight"])


def test_distributions_of_the_intended_initialisation(make):
    network = make(width=16, latent=64)
    for name, module in network.named_modules():
        if isinstance(module, EqualizedLinear):
            expected = 100 if name.startswith("mapper") else 1
            assert module.weight.std().item() == pytest.approx(expected, rel=0.15), name
            assert module.bias.abs().max() == 0
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.5), name
            assert module.bias is None or module.bias.abs().max() == 0
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight - 1).std().item() == pytest.approx(0.02, rel=0.5), name
            assert module.bias.abs().max() == 0
            assert module.running_var.eq(1).all()
            assert module.num_batches_tracked == 0


def test_the_released_initialisation_overwrites_equalised_layers(make):
    network = make(width=16, latent=64, initialisation="released")
    layers = [module for module in network.modules() if isinstance(module, EqualizedLinear)]
    assert layers
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
    zero = torch.zeros(1, dtype=torch.int64)
    assert network.latent(zero, zero, zero).abs().max() < 1e-15


@pytest.mark.parametrize("kind", ["equalised", "plain"])
@pytest.mark.parametrize("depth", [2, 4, 6])
@pytest.mark.parametrize("latent", [16, 64, 512])
def test_the_latent_is_alive_at_every_length_and_depth(kind, depth, latent):
    sizes = []
    for seed in range(4):
        settings = Generator.Settings(width=1, n_blocks=0, latent=latent, mapper=kind, mapper_depth=depth)
        network = Generator(settings, n_sites=4, n_contrasts=4)
        initialise(network, stream(seed))
        zero = torch.zeros(1, dtype=torch.int64)
        sizes.append(network.latent(zero, zero, zero).square().mean().sqrt().item())
    # three ones among twelve inputs: the mean square starts at 1/4, and every layer keeps it
    assert 0.1 < sum(sizes) / len(sizes) < 1.2


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_other_norms_are_initialised_alike(make, norm):
    network = make(norm=norm, width=16)
    scale = network.res1.norm1.weight
    assert (scale - 1).std().item() == pytest.approx(0.02, rel=0.5)
    assert network.res1.norm1.bias.abs().max() == 0

"""PatchGAN: size, field of view, shapes."""

import pytest
import torch

from polysite.networks.discriminator import Discriminator
from polysite.networks.initialise import initialise


def build(**settings):
    network = Discriminator(Discriminator.Settings(**({"width": 4} | settings)))
    initialise(network, torch.Generator().manual_seed(0))
    return network


def test_parameter_count_is_the_papers():
    with torch.device("meta"):
        network = Discriminator(Discriminator.Settings())
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_764_609


@pytest.mark.parametrize("which", [0, 1], ids=["source", "target"])
def test_a_score_sees_70_by_70_pixels(which):
    network = build().double().eval()
    pair = [torch.rand(1, 1, 128, 128, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    scores = network(*pair)
    scores[0, 0, 7, 7].backward()
    seen = torch.nonzero(pair[which].grad[0, 0])
    first, last = seen.min(dim=0).values, seen.max(dim=0).values
    assert (last - first + 1).tolist() == [70, 70]


def test_score_map_shape_and_smallest_slice():
    network = build()
    assert network(torch.zeros(2, 1, 256, 64), torch.zeros(2, 1, 256, 64)).shape == (2, 1, 30, 6)
    assert network(torch.rand(2, 1, 24, 24), torch.rand(2, 1, 24, 24)).shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"23×64.*at least 24"):
        network(torch.zeros(1, 1, 23, 64), torch.zeros(1, 1, 23, 64))


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_learns_to_tell_a_pair_from_another(norm):
    network = build(norm=norm)
    stream = torch.Generator().manual_seed(1)
    source = torch.rand(2, 1, 32, 32, generator=stream)
    false, true = torch.rand(2, 1, 32, 32, generator=stream), 1 - source
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(40):
        loss = network(source, false).square().mean() + (network(source, true) - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.25  # 0.5 is what a constant score reaches

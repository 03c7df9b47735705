"""The plain U-Net for volumes: sizes, names, any volume."""

import pytest
import torch

from polysite.networks.crld import CRLD
from polysite.networks.initialise import initialise
from polysite.networks.unet import UNet


def make(**heads: int) -> UNet:
    network = UNet(UNet.Settings(width=8), heads=heads or {"only": 4})
    initialise(network, torch.Generator().manual_seed(0))
    return network


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_its_encoder_is_one_of_the_two_branch_networks():
    with torch.device("meta"):
        plain = UNet(UNet.Settings(), heads={"only": 4})
        crld = CRLD(CRLD.Settings(), heads={"only": 4})
    shapes = [
        {name: tensor.shape for name, tensor in encoder.state_dict().items()}
        for encoder in (plain.encoder, crld.global_encoder)
    ]
    assert shapes[0] == shapes[1]
    assert {name.partition(".")[0] for name in plain.state_dict()} == {"encoder", "decoder", "heads"}


@pytest.mark.parametrize("size", [(4, 32, 32), (3, 37, 29), (1, 15, 8), (5, 9, 23)])
def test_any_size_from_eight_on(size: tuple[int, int, int]):
    logits, features = make()(noise(2, 1, *size), "only")
    z, x, y = size
    assert logits.shape == (2, 4, *size)
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "bottleneck": (2, 64, z, x // 8, y // 8)
    }
    with pytest.raises(ValueError, match=r"3×7×32 \(z, x, y\).*at least 8"):
        make()(noise(1, 1, 3, 7, 32), "only")


def test_a_batch_is_its_samples_one_by_one_and_every_head_has_its_classes():
    network, image = make(a=2, b=5), noise(2, 1, 3, 17, 24)
    together = network(image, "b").logits
    alone = torch.cat([network(image[i : i + 1], "b").logits for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert network(image, "a").logits.shape[1] == 2


def test_every_parameter_is_trained():
    network = make()
    network(noise(1, 1, 3, 24, 24), "only").logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name

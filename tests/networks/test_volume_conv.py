"""The quick way of a volume's convolution gives torch's values and gradients."""

import pytest
import torch
from torch import Tensor, nn

from polysite.networks import volume_conv
from polysite.networks.volume_conv import VolumeConv


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("shape", [(1, 6, 5, 9, 14), (1, 6, 1, 8, 8), (2, 6, 3, 9, 14), (1, 6, 80, 50, 8)])
def test_values_and_gradients_are_torchs(
    kernel: tuple[int, int, int], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = torch.Generator().manual_seed(0)
    ours = VolumeConv(6, 5, kernel)
    plain = nn.Conv3d(6, 5, kernel, padding=tuple(size // 2 for size in kernel))
    plain.load_state_dict(ours.state_dict())
    image, weights = (
        torch.randn(shape, generator=stream),
        torch.randn(shape[0], 5, *shape[2:], generator=stream),
    )
    calls = []
    conv2d = volume_conv.F.conv2d
    monkeypatch.setattr(
        volume_conv.F, "conv2d", lambda *given, **how: calls.append(1) or conv2d(*given, **how)
    )
    found: list[list[Tensor]] = []
    for network in (ours, plain):
        x = image.clone().requires_grad_()
        y = network(x)
        (y * weights).mean().backward()
        found.append([y, x.grad, network.weight.grad, network.bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert bool(calls) == (shape[0] == 1 and shape[2] < 80)


def test_autocast_keeps_torchs_own_way() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert VolumeConv(6, 4, (3, 3, 3))(torch.zeros(1, 6, 3, 9, 9)).dtype == torch.bfloat16

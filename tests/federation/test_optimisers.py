"""Moments that are stored and put back are the same to the last bit, wherever they lie in memory."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polysite.federation.optimisers import moments, restore

ADAM: dict[str, Any] = {"lr": 0.1, "betas": (0.5, 0.999)}


def network(channels_last: bool = False) -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    with torch.no_grad():
        for number, parameter in enumerate(layers.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    return layers.to(memory_format=torch.channels_last) if channels_last else layers


def step(model: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
    stream = torch.Generator().manual_seed(100 + number)
    for parameter in model.parameters():
        grad = torch.randn(parameter.shape, generator=stream)
        parameter.grad = torch.empty_like(parameter).copy_(grad)
    optimiser.step()


def stored(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """As a store gives them back: contiguous and apart from the optimiser."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in moments({"net": model}, {"net": optimiser}).items()
    }


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, fused=True, **ADAM),
        lambda p: torch.optim.Adam(p, foreach=False, **ADAM),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
    ids=["fused Adam", "Adam", "SGD"],
)
@pytest.mark.parametrize("used", [False, True], ids=["new optimiser", "used optimiser"])
def test_put_back_means_never_taken_away(make: Any, channels_last: bool, used: bool) -> None:
    model = network(channels_last)
    optimiser = make(model.parameters())
    for number in range(3):
        step(model, optimiser, number)
    kept = stored(model, optimiser)

    other = network(channels_last)
    other.load_state_dict(model.state_dict())
    late = make(other.parameters())
    if used:
        step(other, late, 50)  # its moments are now of something else
        other.load_state_dict(model.state_dict())
    restore({"net": other}, {"net": late}, kept)
    for number in range(3, 6):
        step(model, optimiser, number)
        step(other, late, number)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert all(
        torch.equal(tensor, stored(other, late)[name]) for name, tensor in stored(model, optimiser).items()
    )


def test_what_is_not_stored_begins_anew() -> None:
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), amsgrad=True, **ADAM)
    step(model, optimiser, 0)
    kept = {name: value for name, value in stored(model, optimiser).items() if "max_exp_avg_sq" not in name}
    del kept["net/0.bias/step"], kept["net/0.bias/exp_avg"], kept["net/0.bias/exp_avg_sq"]
    restore({"net": model}, {"net": optimiser}, kept)
    assert set(moments({"net": model}, {"net": optimiser})) == set(kept)
    restore({"net": model}, {"net": optimiser}, {})
    assert moments({"net": model}, {"net": optimiser}) == {}


def test_moments_put_back_are_not_the_stored_tensors() -> None:
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), fused=True, **ADAM)
    step(model, optimiser, 0)
    kept = stored(model, optimiser)
    before = {name: value.clone() for name, value in kept.items()}
    restore({"net": model}, {"net": optimiser}, {})
    restore({"net": model}, {"net": optimiser}, kept)
    step(model, optimiser, 1)
    assert all(torch.equal(value, before[name]) for name, value in kept.items())

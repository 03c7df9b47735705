"""FedBN finds normalisation layers by what they are, in every network that there is."""

from typing import Any

import pytest
import torch
from torch import nn

from fakes import TINY, small_task
from polysite.algorithms.fedbn import FedBN
from polysite.config.base import Component
from polysite.errors import ConfigError
from polysite.networks.crld import CRLD
from polysite.networks.unet import UNet
from toy import CrewMaker


def private(model: nn.Module) -> set[str]:
    return set(model.state_dict()) - FedBN(FedBN.Settings(private=())).shared(model)


class Tricky(nn.Module):
    """Names that say the contrary of what the layers are; one layer has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.Conv2d(2, 2, 1)
        self.norm = nn.Linear(2, 2)
        self.subnet = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.a, self.b = nn.InstanceNorm2d(2, affine=True), nn.GroupNorm(1, 2)
        self.c, self.d = nn.LayerNorm(2), nn.RMSNorm(2)
        self.e, self.plain = nn.SyncBatchNorm(2), nn.InstanceNorm2d(2)
        self.again = self.b


def test_layers_are_found_by_type_whatever_they_are_called() -> None:
    affine = {"weight", "bias"}
    batch = {*affine, "running_mean", "running_var", "num_batches_tracked"}
    assert private(Tricky()) == {
        *(f"subnet.1.{name}" for name in batch),
        *(f"e.{name}" for name in batch),
        *(f"{layer}.{name}" for layer in ("a", "b", "c", "again") for name in affine),
        "d.weight",
    }


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_the_generators_norms_stay_and_its_convolutions_travel(norm: str) -> None:
    task = small_task(network=Component(name=TINY.name, **{**TINY.settings, "norm": norm}))
    model = task.build("north", 3)
    kept = private(model.generator)
    kinds = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)
    layers = {path: module for path, module in model.generator.named_modules() if isinstance(module, kinds)}
    assert any(f"{path}.weight" in kept for path in layers)
    assert kept == {f"{path}.{name}" for path, module in layers.items() for name in module.state_dict()}


@pytest.mark.parametrize(("kind", "n_norms"), [(CRLD, 8 + 8 + 6 + 1), (UNet, 8 + 6)])
def test_the_segmentation_networks_group_norms_stay(kind: Any, n_norms: int) -> None:
    """Encoders, decoder, and the one of the attention."""
    with torch.device("meta"):
        network = kind(kind.Settings(width=8), heads={"a": 3})
    layers = [path for path, module in network.named_modules() if isinstance(module, nn.GroupNorm)]
    assert len(layers) == n_norms
    assert private(network) == {f"{path}.{name}" for path in layers for name in ("weight", "bias")}


def test_private_patterns_have_the_last_word() -> None:
    model = Tricky()
    assert "bn.weight" not in FedBN(FedBN.Settings(private=("bn.*",))).shared(model)


def test_a_network_without_norms_is_refused(toy_crew: CrewMaker) -> None:
    with pytest.raises(ConfigError, match="fedbn would be fedavg"):
        toy_crew(2, algorithm={"name": "fedbn"})

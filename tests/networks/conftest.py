"""Small networks, and the literal generator that the benchmarks compare with."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polysite.networks.generator import Generator
from polysite.networks.initialise import initialise

PLAIN = Path(__file__).parents[2] / "benchmarks" / "plain.py"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plain_class() -> Any:
    """``PlainGenerator`` of ``benchmarks/plain.py``."""
    spec = importlib.util.spec_from_file_location("plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PlainGenerator


@pytest.fixture
def make() -> Callable[..., Generator]:
    """A small, initialised generator for three sites and three contrasts; settings as keywords."""

    def build(seed: int = 0, network_class: type[Generator] = Generator, **settings: Any) -> Generator:
        small = {"width": 8, "n_blocks": 2, "latent": 16}
        network = network_class(Generator.Settings(**(small | settings)), n_sites=3, n_contrasts=3)
        initialise(network, torch.Generator().manual_seed(seed))
        return network

    return build


@pytest.fixture
def slices() -> torch.Tensor:
    """Four noise slices of 24×32."""
    return torch.rand(4, 1, 24, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture
def codes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Site, source and target of four samples, all different."""
    return torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 0])

"""Initial weights, drawn from a stream that the caller passes."""

import math

import torch
from torch import nn

from polysite.networks.equalized import EqualizedLinear
from polysite.networks.mapper import NEGATIVE_SLOPE, Mapper

STD = 0.02


def initialise(network: nn.Module, stream: torch.Generator) -> None:
    """Draw every weight of a network in place, deterministically.

    Convolutions and linear layers N(0, 0.02), norms' scales N(1, 0.02), biases and shifts 0, running
    statistics as new. Equalised layers get what they are made for, N(0, 1/lr_multiplier), and the plain
    mapper's layers N(0, 2 / ((1 + 0.2²) fan_in)), with which the latent keeps its size from layer to layer
    whatever its length. If the network has the attribute ``initialisation`` with the value ``"released"``,
    all these too are overwritten by N(0, 0.02), as in the authors' code: six equalised layers then shrink
    the latent to about 1e-21, and the output does not depend on the codes.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    stream : torch.Generator
        Source of the random numbers, on the device of the network's parameters.
    """
    released = getattr(network, "initialisation", "intended") == "released"
    mapper_layers = {
        layer for module in network.modules() if isinstance(module, Mapper) for layer in module.layers
    }
    for module in network.modules():
        if isinstance(module, EqualizedLinear):
            _normal(module, 0.0, STD if released else module.stored_std, stream)
        elif isinstance(module, nn.Linear) and module in mapper_layers and not released:
            _normal(module, 0.0, math.sqrt(2 / ((1 + NEGATIVE_SLOPE**2) * module.in_features)), stream)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            _normal(module, 0.0, STD, stream)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
            _normal(module, 1.0, STD, stream)
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()


def _normal(module: nn.Module, mean: float, std: float, stream: torch.Generator) -> None:
    with torch.no_grad():
        parameters = dict(module.named_parameters(recurse=False))
        parameters["weight"].normal_(mean, std, generator=stream)
        if "bias" in parameters:
            parameters["bias"].zero_()

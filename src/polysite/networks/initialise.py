"""Initial weights, drawn from a stream that the caller passes."""

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

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

    With ``initialisation = "torch"`` convolutions and linear layers get the distribution of torch's own
    constructors, U(±1 / sqrt(fan_in)) for weights and biases, and norms scale 1 and shift 0: what networks
    are published with that never initialise themselves. Behind a norm the scale of a weight is no matter;
    in an attention without norms this one's small scores let every voxel start by looking at all others
    (He's would make them six times as large).

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    stream : torch.Generator
        Source of the random numbers, on the device of the network's parameters.
    """
    rule = getattr(network, "initialisation", "intended")
    if rule == "torch":
        _as_torch(network, stream)
        return
    released = rule == "released"
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


def _as_torch(network: nn.Module, stream: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=stream)
            if module.bias is not None:
                fan_in, _ = nn.init._calculate_fan_in_and_fan_out(module.weight)
                bound = 1 / math.sqrt(fan_in)
                nn.init.uniform_(module.bias, -bound, bound, generator=stream)
        elif isinstance(module, (_NormBase, nn.GroupNorm)):
            module.reset_parameters()


def _normal(module: nn.Module, mean: float, std: float, stream: torch.Generator) -> None:
    with torch.no_grad():
        parameters = dict(module.named_parameters(recurse=False))
        parameters["weight"].normal_(mean, std, generator=stream)
        if "bias" in parameters:
            parameters["bias"].zero_()

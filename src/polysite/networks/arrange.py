"""How a network computes: its memory format, and whether it is compiled."""

import torch
from torch import nn


def arrange(network: nn.Module, *, channels_last: bool = False, compiled: bool = False) -> None:
    """Choose memory format and compilation of a network in place: names, types and values stay.

    Both are off by default because neither pays on a CPU: see the explanation "speed".

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    channels_last : bool
        Store kernels, and with them feature maps, channel last (what a GPU's tensor cores read).
    compiled : bool
        Compile at the first call (about a minute; needs a C++ compiler, or Triton on a GPU).
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    if compiled:
        network.compile(dynamic=False)  # a run has one size, and symbolic ones break the mirrored borders

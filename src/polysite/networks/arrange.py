"""How a network computes: its memory format, and whether it is compiled."""

import torch
from torch import nn

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of kernels over slices and over volumes, by their number of axes."""


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
        for parameter in network.parameters():
            if parameter.dim() in FORMATS:
                parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    if compiled:
        network.compile(dynamic=False)  # a run has one size, and symbolic ones break the mirrored borders

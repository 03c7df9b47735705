"""How a network computes: number format, memory format, compilation."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[object]:
    """A context in which forward passes and losses run in the given precision.

    With ``"bfloat16"`` convolutions and matrix products take and give bfloat16 and sum in float32;
    parameters, their gradients, statistics and optimiser moments stay float32. Backward passes belong
    outside.
    """
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")


def arrange(network: nn.Module, *, channels_last: bool = False, compiled: bool = False) -> None:
    """Choose a network's memory format and whether it is compiled, in place: names and values stay.

    Both are off by default because on a CPU neither pays for itself at once: see the explanation "speed".

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    channels_last : bool
        Store feature maps and kernels channel by channel last (good on a GPU's tensor cores).
    compiled : bool
        Compile at the first call (about a minute; needs a C++ compiler, or Triton on a GPU).
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    if compiled:
        network.compile()

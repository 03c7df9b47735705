"""A convolution of volumes that is as fast on a CPU as one of slices."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 20_480
"""Values of batch × channel × z × x up to which torch takes its slow kernel for a single volume."""


class VolumeConv(nn.Conv3d):
    """``nn.Conv3d`` with a kernel of (1 or 3, k, k), sizes kept: the same weights, names and values.

    For one small float32 volume on a CPU torch unfolds the volume instead of calling oneDNN (4 to 10 times
    slower, forward and back, at the widths of a demonstration). There a volume is computed as a batch of slices,
    each with its two neighbours as further channels.

    Parameters
    ----------
    in_channels, out_channels : int
        Before and after.
    kernel : (int, int, int)
        Odd, 1 or 3 across slices.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int]) -> None:
        z, x, y = kernel
        super().__init__(in_channels, out_channels, kernel, padding=(z // 2, x // 2, y // 2))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, z, x, y), sizes kept."""
        fast = (
            x.device.type != "cpu"
            or x.dtype != torch.float32
            or torch.is_autocast_enabled("cpu")
            or len(x) > 1
            or x.shape[:4].numel() > FEW
        )
        if fast:
            return super().forward(x)
        n_slices, depth = x.shape[2], self.kernel_size[0]
        reach = depth // 2
        padded = F.pad(x, (0, 0, 0, 0, reach, reach)) if reach else x
        near = torch.cat([padded[:, :, z : z + n_slices] for z in range(depth)], dim=1)
        kernel = self.weight.transpose(1, 2).flatten(1, 2)  # (out, z · in, x, y), as the neighbours lie
        padding = (self.kernel_size[1] // 2, self.kernel_size[2] // 2)
        slices = F.conv2d(near.transpose(1, 2).flatten(0, 1), kernel, self.bias, padding=padding)
        return slices.view(len(x), n_slices, *slices.shape[1:]).transpose(1, 2)

"""Tokens of earlier volumes, kept at a site as negatives: first in, first out."""

import torch
from torch import Tensor

NAMES = ("queue/local", "queue/global")


class Queue:
    """The last ``size`` tokens of local and of global features in a site's memory.

    Parameters
    ----------
    memory : dict of str to Tensor
        The site's; it holds ``queue/local`` and ``queue/global``, (token, channel), oldest first.

    References
    ----------
    He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020.
    """

    def __init__(self, memory: dict[str, Tensor], size: int) -> None:
        self._memory, self._size = memory, size

    def content(self, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Local and global tokens where they are needed; None while there are none."""
        local, global_ = (self._memory.get(name) for name in NAMES)
        return None if local is None or global_ is None else (local.to(device), global_.to(device))

    def put(self, local_tokens: Tensor, global_tokens: Tensor) -> None:
        """Add tokens (batch, token, channel) and drop the oldest beyond the size."""
        for name, tokens in zip(NAMES, (local_tokens, global_tokens), strict=True):
            new = tokens.detach().float().flatten(0, 1)
            kept = self._memory.get(name)
            if kept is not None:
                new = torch.cat([kept.to(new.device), new])
            self._memory[name] = new[-self._size :].clone()

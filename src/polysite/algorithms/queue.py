"""Tokens of a site's earlier volumes, newest first, in its memory: negatives of a contrast."""

from collections.abc import Mapping

import torch
from torch import Tensor

QUEUE = "queue/"


def queued(memory: Mapping[str, Tensor], branch: str, device: torch.device) -> Tensor | None:
    """A branch's tokens (n, channel); None if there are none yet."""
    tokens = memory.get(QUEUE + branch)
    return None if tokens is None else tokens.to(device)


def enqueue(memory: dict[str, Tensor], branch: str, tokens: Tensor, size: int) -> None:
    """Put tokens (batch, token, channel) before a branch's earlier ones, of which the last beyond ``size`` go."""
    new = tokens.detach().flatten(0, 1).float()
    earlier = queued(memory, branch, new.device)
    memory[QUEUE + branch] = (new if earlier is None else torch.cat([new, earlier]))[:size].clone()

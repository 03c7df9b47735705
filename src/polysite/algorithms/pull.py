"""A pull of a model's parameters towards other values, as a penalty for the task's loop."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def pull(
    strength: float, model: nn.Module, towards: Mapping[str, Tensor]
) -> Callable[[nn.Module], Tensor] | None:
    """``strength / 2 · Σ ‖w − w_0‖²`` over the parameters that have a value to go to.

    Its gradient is ``strength · (w − w_0)``. Buffers take no part.

    Parameters
    ----------
    strength : float
        At least 0; for 0 there is no penalty at all, so that nothing is rounded differently.
    model : nn.Module
        Says where the values have to lie.
    towards : mapping of str to Tensor
        w_0 by names of the model's state; not copied, so nobody may change them.
    """
    goal = {name: towards[name].to(p.device) for name, p in model.named_parameters() if name in towards}
    if strength == 0 or not goal:
        return None

    def penalty(model: nn.Module) -> Tensor:
        parts = [(p - goal[name]).square().sum() for name, p in model.named_parameters() if name in goal]
        return strength / 2 * torch.stack(parts).sum()

    return penalty

"""A site's memory: named tensors, those of one purpose below one prefix."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def within(memory: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What the memory holds below a prefix, by the rest of the names; the memory's own tensors."""
    return {name[len(prefix) :]: tensor for name, tensor in memory.items() if name.startswith(prefix)}


def keep(memory: dict[str, Tensor], prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model of its own in a site's memory; a copy of a state where there is none yet.

    Parameters
    ----------
    memory : dict of str to Tensor
        The site's; afterwards it holds the result as ``<prefix><name>``, where the state's tensors lie.
    state : mapping of str to Tensor
        A model's ``state_dict()``.

    Returns
    -------
    dict of str to Tensor
        By the state's names; the memory's own tensors, to be changed in place.
    """
    for name, tensor in state.items():
        kept = memory.get(prefix + name)
        memory[prefix + name] = tensor.detach().clone() if kept is None else kept.to(tensor.device)
    return {name: memory[prefix + name] for name in state}


@torch.no_grad()
def copy_into(kept: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Take a state's values over in place."""
    for name, tensor in kept.items():
        tensor.copy_(state[name])


@contextmanager
def holding(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block the model holds other values, by name; afterwards its own again, to the last bit."""
    state = model.state_dict()
    own = {name: state[name].clone() for name in values}
    copy_into({name: state[name] for name in values}, values)
    try:
        yield
    finally:
        copy_into({name: state[name] for name in values}, own)

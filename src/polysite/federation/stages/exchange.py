"""What a site sends for what its method sends, and back: all stages in their order, for every engine alike.

::

    site      change = sent - arrived + residual          floating-point tensors; others travel as they are
              bounded = clipped(change)
              wire = packed(bounded)
              residual = bounded - unpacked(wire)          stays
    server    received = held + unpacked(wire)

``arrived`` and ``held`` are the same tensors: the state that the server sent. With the default settings nothing of
this happens and the tensors travel as they are, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polysite.config.exchange import Exchange
from polysite.errors import ConfigError
from polysite.federation.stages.clip import clipped, norm_of
from polysite.federation.stages.values import SCALES, VALUES, wide


@dataclass(frozen=True)
class Packed:
    """What leaves a site, and what does not."""

    tensors: dict[str, Tensor]
    residual: dict[str, Tensor] = field(default_factory=dict)
    """What rounding lost, for the next round."""
    norm: float | None = None
    """L2 norm of the change before clipping; None where nothing is clipped."""


def planned(exchange: Exchange, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names, shapes and types of what travels to the server for the shared tensors, on the device ``meta``.

    Raises
    ------
    ConfigError
        If a shared tensor has a name that scales would have.
    """
    if exchange.plain:
        return dict(shared)
    if taken := [name for name in shared if name.endswith(SCALES)]:
        raise ConfigError(
            f"exchange: the network has a tensor {taken[0]!r}, and names that end in {SCALES!r} stand for scales; "
            "rename it, or leave out exchange"
        )
    meta = {name: tensor.to("meta") for name, tensor in shared.items()}
    return _packed(
        exchange, {name: wide(tensor) if _changes(tensor) else tensor for name, tensor in meta.items()}
    )


@torch.no_grad()
def pack(
    exchange: Exchange,
    sent: Mapping[str, Tensor],
    arrived: Mapping[str, Tensor],
    residual: Mapping[str, Tensor],
) -> Packed:
    """What leaves a site.

    Parameters
    ----------
    sent : mapping of str to Tensor
        What the method sends: shared tensors with the shapes and types of the model.
    arrived : mapping of str to Tensor
        What the server sent for this round.
    residual : mapping of str to Tensor
        What the last round's rounding lost.
    """
    if exchange.plain:
        return Packed(dict(sent))
    change = {name: wide(tensor) - wide(arrived[name]) for name, tensor in sent.items() if _changes(tensor)}
    for name in change.keys() & residual.keys():
        change[name] += residual[name]
    norm = None
    if exchange.clip is not None:
        norm = norm_of(change)
        change = clipped(change, exchange.clip)
    travels = _packed(exchange, {**sent, **change})
    lost = {}
    if exchange.feeds_back:
        values = VALUES[exchange.values]
        lost = {name: tensor - values.unpack(name, travels) for name, tensor in change.items()}
    return Packed(travels, lost, norm)


@torch.no_grad()
def unpack(
    exchange: Exchange, received: Mapping[str, Tensor], held: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What a site's method sent, as far as its message says, by the model's names, shapes and types.

    Parameters
    ----------
    held : mapping of str to Tensor
        The server's state that the site started the round from.
    """
    if exchange.plain:
        return dict(received)
    values = VALUES[exchange.values]
    tensors = {}
    for name, tensor in received.items():
        if not name.endswith(SCALES):
            before = held[name]
            after = wide(before) + values.unpack(name, received) if _changes(before) else tensor
            tensors[name] = after.to(before.dtype)
    return tensors


def trouble(exchange: Exchange, received: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> str | None:
    """What is wrong with a message that has planned names, shapes and types; None if nothing is."""
    for name in received.keys() & shared.keys():
        found = VALUES[exchange.values].trouble(name, received) if _changes(shared[name]) else None
        if found:
            return f"{name!r} {found}"
    return None


def _packed(exchange: Exchange, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What travels: changes in the type of values, other tensors as they are."""
    travels: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        travels |= VALUES[exchange.values].pack(name, tensor) if _changes(tensor) else {name: tensor}
    return travels


def _changes(tensor: Tensor) -> bool:
    """Whether a tensor's change travels; integers are counters, and of nothing there is no change."""
    return tensor.is_floating_point() and tensor.numel() > 0

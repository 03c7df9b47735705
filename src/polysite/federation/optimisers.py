"""Optimiser moments as tensors by name, so that they can be stored and swapped like weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def moments(networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """All state tensors: ``"generator/enc1.weight/exp_avg"`` → tensor (the optimiser's own, not a copy)."""
    return {
        f"{key}/{name}/{field}": value
        for key, optimiser in optimisers.items()
        for name, parameter in networks[key].named_parameters()
        for field, value in optimiser.state.get(parameter, {}).items()
    }


def restore(
    networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], stored: Mapping[str, Tensor]
) -> None:
    """Put stored moments back, in place where tensors are already there; what is not stored begins anew."""
    for key, optimiser in optimisers.items():
        parameters = dict(networks[key].named_parameters())
        by_name: dict[str, dict[str, Tensor]] = {}
        for full, value in stored.items():
            network, _, rest = full.partition("/")
            if network == key:
                name, _, field = rest.rpartition("/")
                by_name.setdefault(name, {})[field] = value
        for name, parameter in parameters.items():
            if name not in by_name:
                optimiser.state.pop(parameter, None)
                continue
            state = optimiser.state[parameter]
            for field in set(state) - set(by_name[name]):
                del state[field]
            for field, value in by_name[name].items():
                if field not in state:
                    state[field] = _like(parameter, value, fused=bool(optimiser.defaults.get("fused")))
                if state[field] is not value:  # it was read in place
                    state[field].copy_(value)


@contextmanager
def other_moments(
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    memory: dict[str, Tensor],
    name: str,
) -> Iterator[None]:
    """Within the block the optimisers have the moments of another model, kept in a memory as ``moments/<name>/…``."""
    prefix = f"moments/{name}/"
    own = {key: value.clone() for key, value in moments(networks, optimisers).items()}
    kept = {key.removeprefix(prefix): value for key, value in memory.items() if key.startswith(prefix)}
    restore(networks, optimisers, kept)
    yield
    memory.update({prefix + key: value.clone() for key, value in moments(networks, optimisers).items()})
    restore(networks, optimisers, own)


def _like(parameter: nn.Parameter, value: Tensor, *, fused: bool) -> Tensor:
    """Room for a moment: laid out in memory as its parameter, because fused optimisers walk both side by side.

    A step counter stays on the CPU unless the optimiser is fused, as torch has it.
    """
    if value.shape == parameter.shape and value.dim():
        return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
    return torch.empty_like(value, device=parameter.device if fused or value.dim() else "cpu")

"""The features that a method compares, from what a network gives."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polysite.errors import ConfigError


def features(output: Any, method: str, *branches: str) -> Mapping[str, Tensor]:
    """Feature maps (batch, channel, z, x, y) by branch, from an output that has ``features``.

    Raises
    ------
    ConfigError
        If the output has none, or lacks a branch that the method names.
    """
    found: Mapping[str, Tensor] = getattr(output, "features", None) or {}
    missing = [branch for branch in branches if branch not in found]
    if missing or not found:
        raise ConfigError(
            f"algorithm.name: {method!r} compares features, and this network gives "
            f"{f'none called {missing[0]!r}' if found else 'none'}; choose a network that does, for example "
            "'fedcrld' for segmentation, or another algorithm"
        )
    return found

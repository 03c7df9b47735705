"""Features of a network's output, for methods that compare them."""

from typing import Any

import torch
from torch import Tensor

from polysite.errors import ConfigError


def features_of(output: Any, method: str) -> dict[str, Tensor]:
    """Feature maps (batch, channel, z, x, y) by the name of their branch.

    Raises
    ------
    ConfigError
        If the network gives none.
    """
    features: dict[str, Tensor] = getattr(output, "features", {})
    if not features:
        raise ConfigError(
            f"algorithm.name: {method} compares features, and this task's network gives none; use it for "
            "segmentation, or choose another method"
        )
    return features


def pooled(features: dict[str, Tensor]) -> Tensor:
    """All branches' channels, each averaged over its voxels: (batch, channel), float32."""
    return torch.cat([branch.float().flatten(2).mean(2) for branch in features.values()], dim=1)

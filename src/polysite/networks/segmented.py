"""What a segmentation network gives: logits, and the features that a method may compare."""

from typing import NamedTuple

from torch import Tensor


class Segmented(NamedTuple):
    """Output of a segmentation network."""

    logits: Tensor
    """(batch, class, z, x, y), before the softmax."""
    features: dict[str, Tensor]
    """Bottleneck features (batch, channel, z, x, y) by the name of their branch; may be empty."""

"""Smaller values: a floating-point tensor as other tensors that travel in its place, and back.

A type of values packs one tensor into tensors by name, also on torch's device ``meta``, so that what will travel is
known before a run. All of it is rounding to nearest, ties to even; nothing is drawn.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

SCALES = ":scale"
"""Behind a tensor's name: its scales. No network has a name that ends so; see ``Exchange.planned``."""
MOST = 127
"""Largest int8 that is used; -128 is not, so that the range is the same on both sides of 0."""


class Values(Protocol):
    """A type of values."""

    def pack(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """What travels for a tensor."""
        ...

    def unpack(self, name: str, sent: Mapping[str, Tensor]) -> Tensor:
        """The tensor that what travelled stands for, of a type to calculate with."""
        ...

    def trouble(self, name: str, sent: Mapping[str, Tensor]) -> str | None:
        """What is wrong with values of the right shape and type."""
        ...


class AsTheyAre:
    """The tensor itself, in a type to calculate with, so that nothing is lost."""

    def pack(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """One tensor, the same."""
        return {name: tensor}

    def unpack(self, name: str, sent: Mapping[str, Tensor]) -> Tensor:
        """As it came."""
        return wide(sent[name])

    def trouble(self, name: str, sent: Mapping[str, Tensor]) -> str | None:
        """None: any number will do."""
        return None


class BFloat16(AsTheyAre):
    """8 bits of precision in float32's range: a relative error of at most 2^-8, half the bytes."""

    def pack(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """One tensor of bfloat16."""
        return {name: tensor.to(torch.bfloat16)}


class Int8:
    """Whole numbers from -127 to 127 and a scale for each output channel: an error of at most half a scale.

    A channel's scale is its largest absolute value / 127, so nothing is cut off. A tensor with fewer than two axes (a
    bias, a norm's weights) has one scale.
    """

    def pack(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """The whole numbers, and the scales in float32."""
        scales = (
            tensor.abs().amax(dim=tuple(range(1, tensor.dim()))).float() / MOST
        )  # of no axes torch takes all
        divisor = torch.where(scales > 0, scales, torch.ones_like(scales))
        numbers = (tensor / _over(divisor, tensor)).round().clamp(-MOST, MOST)
        return {name: numbers.to(torch.int8), name + SCALES: scales}

    def unpack(self, name: str, sent: Mapping[str, Tensor]) -> Tensor:
        """Number times scale, in float32."""
        numbers = sent[name]
        return numbers.float() * _over(sent[name + SCALES], numbers)

    def trouble(self, name: str, sent: Mapping[str, Tensor]) -> str | None:
        """What `pack` never makes."""
        if name + SCALES not in sent:
            return "has no scales"
        if bool((sent[name + SCALES] < 0).any()):
            return "has scales below 0"
        if not bool(torch.isfinite(sent[name + SCALES] * MOST).all()):
            return "has scales that are too large"
        if bool((sent[name] < -MOST).any()):
            return f"has numbers below -{MOST}"
        return None


VALUES: dict[str, Values] = {"float32": AsTheyAre(), "bfloat16": BFloat16(), "int8": Int8()}


def tensor_of(name: str) -> str:
    """The tensor that something travels for."""
    return name.removesuffix(SCALES)


def wide(tensor: Tensor) -> Tensor:
    """A floating-point tensor in a type to calculate with: at least float32."""
    return tensor.float() if tensor.element_size() < 4 else tensor


def _over(scales: Tensor, tensor: Tensor) -> Tensor:
    """Scales with as many axes as the tensor that they belong to."""
    return scales.reshape(-1, *[1] * (tensor.dim() - 1)) if tensor.dim() > 1 else scales

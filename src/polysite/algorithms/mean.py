"""The weighted mean of tensors by name, one accumulator whatever the number of sites."""

from collections.abc import Mapping

import torch
from torch import Tensor


class WeightedMean:
    """Running weighted mean, ``mean += (x - mean) * w / (w_1 + … + w_k)``.

    A name that only some sites send is averaged over those. Integer tensors are averaged in float64 and
    rounded, half precision in float32; every result has the dtype that came in. One message gives
    exactly that message.

    >>> mean = WeightedMean()
    >>> mean.add({"a": torch.tensor([0.0])}, 1.0)
    >>> mean.add({"a": torch.tensor([4.0])}, 3.0)
    >>> mean.result()
    {'a': tensor([3.])}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, tensors: Mapping[str, Tensor], weight: float) -> None:
        """Take one site's tensors in; they are copied, never kept."""
        if not weight > 0:
            raise ValueError(f"weight must be above 0, not {weight}")
        for name, tensor in tensors.items():
            value = tensor.detach().to(_wide(tensor.dtype))
            total = self._weights.get(name, 0.0) + weight
            if name not in self._sums:
                self._sums[name] = value.clone()
                self._dtypes[name] = tensor.dtype
            else:
                self._sums[name].lerp_(value, weight / total)
            self._weights[name] = total

    def result(self) -> dict[str, Tensor]:
        """The mean of all that was added, by name."""
        return {name: _narrow(value, self._dtypes[name]) for name, value in self._sums.items()}


def _wide(dtype: torch.dtype) -> torch.dtype:
    if not dtype.is_floating_point:
        return torch.float64
    return torch.float32 if dtype.itemsize < 4 else dtype


def _narrow(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if dtype.is_floating_point else value.round().to(dtype)

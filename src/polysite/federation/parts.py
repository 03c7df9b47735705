"""The parts of a guide's loss: added for the task's loop, and kept by name for the record."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from polysite.tasks.task import Guide, Pass


class Parts:
    """Running means of the parts that a guide names; nothing is read from a device before the end."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def of(self, guide: Callable[[Any], Tensor | Mapping[str, Tensor]]) -> Guide:
        """The guide as the task's loop takes it: the sum of its parts."""

        def total(forward: Pass) -> Tensor:
            parts = guide(forward)
            if isinstance(parts, Tensor):
                return parts
            for name, value in parts.items():
                value = value.detach()
                self._sums[name] = self._sums[name] + value if name in self._sums else value
                self._counts[name] = self._counts.get(name, 0) + 1
            first, *others = parts.values()
            for part in others:
                first = first + part
            return first

        return total

    def means(self) -> dict[str, float]:
        """Each part's mean over the forward passes."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}

"""The job as a task of Polysite, found by its entry point as any other package's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from jobs.work import add_one
from polysite.config.base import Section
from polysite.tasks.task import Effort


class Values(nn.Module):
    """One array."""

    def __init__(self, n_values: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n_values), requires_grad=False)


@dataclass
class Nothing:
    """A site's training samples: none are needed, one is said."""

    site: str
    n_samples: int = 1
    n_members: int = 1

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Any]:
        """None."""
        return iter(())


class AddOne:
    """See `polysite.tasks.task.Task`; a model without optimisers, whose whole state is shared."""

    gives_features = False

    class Settings(Section):
        """Length of the array, and the folder of the notes."""

        n_values: int
        notes: str

    def __init__(self, settings: "AddOne.Settings", **others: Any) -> None:
        self._settings = settings

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> nn.Module:
        """Zeros, whatever the seed."""
        with torch.device(device or "cpu"):
            return nn.ModuleDict({"model": Values(self._settings.n_values)})

    def private(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The only one."""
        return dict(model.named_children())

    def optimisers(self, model: nn.Module) -> Mapping[str, Optimizer]:
        """None."""
        return {}

    def data(self, site: str, cases: Sequence[Any]) -> Nothing:
        """Remembers the site."""
        return Nothing(site, len(cases))

    def pool(self, members: Sequence[Nothing]) -> Nothing:
        """Not for this job."""
        raise NotImplementedError("the job's sites are not pooled")

    def fit(
        self,
        model: nn.Module,
        data: Nothing,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        **others: Any,
    ) -> dict[str, float]:
        """Add 1."""
        add_one(model.get_parameter("model.values").data, self._settings.notes, data.site)
        return {"loss": 0.0}

    def validate(self, model: nn.Module, data: Nothing, n_samples: int, seed: int) -> dict[str, float]:
        """Not for this job, whose sites have no validation cases."""
        raise NotImplementedError("the job has no validation cases")

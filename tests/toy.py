"""A task small enough to work out by hand: each site pulls a vector towards its own centre.

Loss of site k: ``½ ‖w - c_k‖²``, plain gradient descent. The model has a float vector ``body.w``, a float
``head.w`` and an integer buffer ``body.steps`` that counts steps, so what travels can be told apart.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite import recipe
from polysite.config import Section
from polysite.federation.crew import Crew
from polysite.networks.segmented import Segmented
from polysite.seeds import numpy_stream, torch_stream
from polysite.tasks.task import Effort, Pass


class Part(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


class ToyModel(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.body, self.head = Part(size), Part(2)


@dataclass
class ToyData:
    centre: Tensor
    n_samples: int
    n_members: int = 1

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Tensor]:
        for _ in range(n_steps or self.n_samples):
            yield self.centre + torch.from_numpy(rng.normal(0, 1e-3, self.centre.shape)).float()


def shown(w: Tensor) -> Segmented:
    """The vector as a network's output on one voxel: logits, and two branches of features."""
    voxel = w.reshape(1, -1, 1, 1, 1)
    return Segmented(voxel, {"global": voxel, "local": voxel.roll(1, dims=1)})


def again(model: ToyModel, values: Mapping[str, Tensor]) -> Segmented:
    return shown(values.get("body.w", model.body.w).detach())


class Toy:
    """Polysite's task protocol over :class:`ToyModel`."""

    class Settings(Section):
        size: int = 3
        noisy: bool = False

    def __init__(self, settings: "Toy.Settings", **others: Any) -> None:
        self.settings, self.sites, self.training = settings, list(others["sites"]), others["training"]

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> ToyModel:
        model = ToyModel(self.settings.size)
        if seed is not None:
            with torch.no_grad():
                for name, part in self.networks(model).items():
                    part.w.normal_(generator=torch_stream(seed, name))
        return model

    def private(self) -> tuple[str, ...]:
        return ()

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"body": model.body, "head": model.head}

    def optimisers(self, model: nn.Module) -> Mapping[str, Optimizer]:
        rate = self.training.learning_rate
        return {
            name: torch.optim.SGD(part.parameters(), lr=rate, momentum=0.5)
            for name, part in self.networks(model).items()
        }

    def data(self, site: str, cases: Sequence[Any]) -> ToyData:
        index = self.sites.index(site)
        return ToyData(torch.full((self.settings.size,), float((-2) ** index)), n_samples=index + 1)

    def pool(self, members: Sequence[ToyData]) -> ToyData:
        n = sum(member.n_samples for member in members)
        return ToyData(sum(m.centre * m.n_samples for m in members) / n, n, len(members))

    def fit(
        self,
        model: nn.Module,
        data: ToyData,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        *,
        penalty: Any = None,
        guide: Any = None,
        after_step: Any = None,
        only: Collection[str] | None = None,
    ) -> dict[str, float]:
        total, n = 0.0, 0
        for optimiser in optimisers.values():
            optimiser.param_groups[0]["lr"] = self.training.learning_rate * effort.rate_factor
        for noisy in data.batches(numpy_stream(effort.seed, "toy"), effort.n_steps, effort.batch_size):
            centre = noisy if self.settings.noisy else data.centre
            loss = (
                0.5 * (model.body.w - centre).square().sum()
                + 0.5 * (model.head.w - centre[:2]).square().sum()
            )
            model.zero_grad()
            if penalty is not None:
                loss = loss + penalty(model)
            if guide is not None:
                loss = loss + guide(Pass(shown(model.body.w), partial(again, model)))
            loss.backward()
            for optimiser in optimisers.values():
                optimiser.step()
            for part in self.networks(model).values():
                part.steps += 1
            if after_step is not None:
                after_step(model)
            total, n = total + float(loss.detach()), n + 1
        return {"loss": total / n}

    def validate(self, model: nn.Module, data: ToyData, n_samples: int, seed: int) -> dict[str, float]:
        return {"loss": 0.5 * float((model.body.w - data.centre).detach().square().sum())}


CrewMaker = Callable[..., Crew]
"""What the fixture ``toy_crew`` is."""


def toy_raw(n_sites: int = 2, **over: Any) -> dict[str, Any]:
    """The YAML of a toy run."""
    raw: dict[str, Any] = {
        "name": "toy",
        "contrasts": ["T1w", "T2w"],
        "sites": {
            f"site{k}": {"data": {"format": "bids", "path": "nowhere"}, "tasks": ["T1w->T2w"]}
            for k in range(n_sites)
        },
        "task": {"name": "toy"},
        "algorithm": {"name": "fedavg", "private": ["head.*"]},
        "training": {"rounds": 3, "steps_per_round": 2, "learning_rate": 0.25, "flat_rounds": 3},
    }
    return recipe.merge(raw, over)

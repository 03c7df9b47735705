"""A task small enough to work out by hand: each site pulls a vector towards its own centre.

Loss of site k: ``½ ‖w - c_k‖²``, plain gradient descent. The model has a float vector ``body.w``, a float
``head.w`` and an integer buffer ``body.steps`` that counts steps, so what travels can be told apart. With
``task.norm`` also a normalisation layer whose name does not say so, ``calm``, and a part whose name has the
letters of one, ``subnet``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite import recipe
from polysite.config.base import Section
from polysite.federation.crew import Crew
from polysite.seeds import numpy_stream, torch_stream
from polysite.tasks.task import Effort, Pass


class Part(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


class ToyModel(nn.Module):
    def __init__(self, size: int, norm: bool = False) -> None:
        super().__init__()
        self.body, self.head = Part(size), Part(2)
        if norm:
            self.subnet, self.calm = Part(2), nn.GroupNorm(1, 2)


class Output(NamedTuple):
    """What the toy model gives a method to look at: two classes, two channels, four places."""

    logits: Tensor
    features: dict[str, Tensor]


def look(values: Mapping[str, Tensor]) -> Output:
    """The output for some values; head and body have their say in all parts of it."""
    places = torch.linspace(-1, 1, 8).view(1, 2, 1, 1, 4)
    body, head = (values[f"{name}.w"][:2].view(1, 2, 1, 1, 1) for name in ("body", "head"))
    return Output(body + head + places, {"global": body + places, "local": head * places})


@dataclass
class ToyData:
    centre: Tensor
    n_samples: int
    n_members: int = 1

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Tensor]:
        for _ in range(n_steps or self.n_samples):
            yield self.centre + torch.from_numpy(rng.normal(0, 1e-3, self.centre.shape)).float()


class Toy:
    """Polysite's task protocol over :class:`ToyModel`."""

    gives_features = True

    class Settings(Section):
        size: int = 3
        noisy: bool = False
        norm: bool = False

    def __init__(self, settings: "Toy.Settings", **others: Any) -> None:
        self.settings, self.sites, self.training = settings, list(others["sites"]), others["training"]

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> ToyModel:
        model = ToyModel(self.settings.size, self.settings.norm)
        if seed is not None:
            with torch.no_grad():
                for name, part in self.networks(model).items():
                    if isinstance(part, Part):
                        part.w.normal_(generator=torch_stream(seed, name))
        return model

    def private(self) -> tuple[str, ...]:
        return ()

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return dict(model.named_children())

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
            if self.settings.norm:
                loss = loss + sum(
                    0.5 * (p - centre[:2]).square().sum()
                    for part in (model.subnet, model.calm)
                    for p in part.parameters()
                )
            model.zero_grad()
            if penalty is not None:
                loss = loss + penalty(model)
            if guide is not None:
                own = dict(model.named_parameters())
                loss = loss + guide(
                    Pass(
                        look(own),
                        lambda values, own=own: look({k: v.detach() for k, v in {**own, **values}.items()}),
                    )
                )
            loss.backward()
            for optimiser in optimisers.values():
                optimiser.step()
            for part in model.children():
                if isinstance(part, Part):
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

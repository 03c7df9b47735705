"""Segmentation in miniature: FedCRLD's own network on volumes of 2×16×16, as a task of the protocol.

A site's volumes hold one bright block a class on noise; a site's brightness is its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite import recipe
from polysite.config.base import Section
from polysite.losses.supervised import cross_entropy, dice_loss
from polysite.networks.crld import CRLD
from polysite.networks.initialise import initialise
from polysite.networks.segmented import Segmented
from polysite.seeds import numpy_stream, torch_stream
from polysite.tasks.loop import descend, shadow, train
from polysite.tasks.task import Effort, Pass

N_CLASSES, SHAPE = 3, (2, 16, 16)


HEAD = "LV-MYO"


class Model(nn.Module):
    def __init__(self, settings: CRLD.Settings) -> None:
        super().__init__()
        self.segmenter = CRLD(settings, heads={HEAD: N_CLASSES})


@dataclass
class CubeData:
    brightness: float
    n_samples: int
    n_members: int = 1

    def batches(
        self, rng: np.random.Generator, n_steps: int | None, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(n_steps or self.n_samples):
            labels = np.zeros((batch_size, *SHAPE), dtype=np.int64)
            for sample in labels:
                for label in range(1, N_CLASSES):
                    x, y = rng.integers(0, 10, 2)
                    sample[:, x : x + 6, y : y + 6] = label
            image = self.brightness * labels + rng.normal(0, 0.3, labels.shape)
            yield torch.from_numpy(image).float()[:, None], torch.from_numpy(labels)


class Cubes:
    """Polysite's task protocol over :class:`Model`."""

    gives_features = True

    class Settings(Section):
        pass

    def __init__(self, settings: "Cubes.Settings", **others: Any) -> None:
        self.settings, self.sites, self.training = settings, list(others["sites"]), others["training"]
        self.network = others["network"]

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> Model:
        model = Model(CRLD.Settings(**self.network.settings))
        if seed is not None:
            initialise(model.segmenter, torch_stream(seed, "segmenter"))
        return model

    def private(self) -> tuple[str, ...]:
        return ()

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"segmenter": model.segmenter}

    def optimisers(self, model: nn.Module) -> Mapping[str, Optimizer]:
        rate = self.training.learning_rate
        return {
            "segmenter": torch.optim.Adam(model.parameters(), lr=rate, betas=self.training.betas, fused=True)
        }

    def data(self, site: str, cases: Sequence[Any]) -> CubeData:
        index = self.sites.index(site)
        return CubeData(float(1 + index), n_samples=index + 1)

    def pool(self, members: Sequence[CubeData]) -> CubeData:
        return CubeData(1.0, sum(member.n_samples for member in members), len(members))

    def fit(
        self,
        model: nn.Module,
        data: CubeData,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        *,
        penalty: Any = None,
        guide: Any = None,
        after_step: Any = None,
        only: Any = None,
    ) -> dict[str, float]:
        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            image, labels = batch
            inputs = (image, HEAD)
            output: Segmented = model.segmenter(*inputs)
            own = dice_loss(output.logits, labels) + cross_entropy(output.logits, labels)
            total = own if penalty is None else own + penalty(model)
            if guide is not None:
                total = total + guide(Pass(output, lambda values: shadow(model, values, "segmenter", inputs)))
            descend(total, optimisers.values())
            return {"segmentation": own.detach()}

        return train(
            model,
            data.batches(numpy_stream(effort.seed, "cubes"), effort.n_steps, effort.batch_size),
            optimisers,
            step,
            learning_rate=self.training.learning_rate * effort.rate_factor,
            after_step=after_step,
            only=only,
        )

    @torch.no_grad()
    def validate(self, model: nn.Module, data: CubeData, n_samples: int, seed: int) -> dict[str, float]:
        model.eval()
        ((image, labels),) = data.batches(numpy_stream(seed, "cubes"), 1, n_samples)
        return {"loss": float(cross_entropy(model.segmenter(image, HEAD).logits, labels))}


def cubes_raw(n_sites: int = 2, **over: Any) -> dict[str, Any]:
    """The YAML of a run on cubes."""
    raw: dict[str, Any] = {
        "name": "cubes",
        "contrasts": ["ED"],
        "sites": {
            f"site{k}": {"data": {"format": "bids", "path": "nowhere"}, "labels": {"LV": 1, "MYO": 2}}
            for k in range(n_sites)
        },
        "task": {"name": "cubes"},
        "network": {"name": "fedcrld", "width": 8},
        "algorithm": {"name": "fedcrld"},
        "training": {"rounds": 2, "steps_per_round": 2, "batch_size": 1, "validation_slices": 2},
    }
    return recipe.merge(raw, over)

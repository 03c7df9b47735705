"""Labelled cases that live in memory, and small segmentation tasks on them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polysite.config.base import Component
from polysite.config.site import Site
from polysite.config.sources import BidsData
from polysite.config.training import Training
from polysite.seeds import numpy_stream
from polysite.tasks.segmentation import Segmentation, SegmentationModel
from polysite.tasks.task import Effort
from polysite.tasks.volumes import Batch

TINY = Component(name="fedcrld", width=8)
UNET = Component(name="unet", width=8)
EFFORT = Effort(n_steps=2, batch_size=1, rate_factor=1.0, seed=5)
LABELS: dict[str, dict[str, Any]] = {
    "ivy": {"labels": {"LV": 1, "MYO": 2, "RV": 3}},
    "nave": {"labels": {"LV": 7, "MYO": 5, "scar": (6, 9)}},
}
"""Two sites with different classes; what ``HeartCase`` draws has the values 1, 2, 3 or, with a scar, 7, 5, 6, 9."""


@dataclass
class HeartCase:
    """Looks like a prepared case: a ring of muscle about a ventricle, another ventricle beside it, and noise."""

    subject: str = "01"
    shape: tuple[int, int, int] = (4, 24, 24)
    seed: int = 0
    part: str = "ED"
    scar: bool = False
    labelled: bool = True
    contrasts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.contrasts = (self.part,)
        rng = np.random.default_rng(self.seed)
        _, x, y = np.indices(self.shape)
        centre = np.asarray(self.shape[1:]) / 2 + rng.uniform(-2, 2, 2)
        far = np.hypot(x - centre[0], y - centre[1])
        drawn = np.zeros(self.shape, dtype=np.uint8)
        drawn[np.hypot(x - centre[0] + 6, y - centre[1]) < 4] = 3
        drawn[far < 5] = 2
        drawn[far < 3] = 1
        self.raw = np.asarray([0, 7, 5, 0])[drawn].astype(np.uint8) if self.scar else drawn
        if self.scar:
            self.raw[(drawn == 2) & (x > centre[0] + 2)] = 6
            self.raw[(drawn == 2) & (x > centre[0] + 3)] = 9
        bright = np.asarray([-1.0, 2.0, 0.0, 1.5])[drawn] + rng.normal(0, 0.2, self.shape)
        self.image = bright.astype(np.float16)

    @property
    def key(self) -> str:
        return f"sub-{self.subject}_{self.part}"

    def volume(self, contrast: str) -> NDArray[np.float16]:
        assert contrast == self.part
        return self.image

    def labels(self) -> NDArray[np.uint8] | None:
        return self.raw if self.labelled else None


def heart_task(
    sites: dict[str, dict[str, Any]] | None = None,
    network: Component = TINY,
    training: dict[str, Any] | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Segmentation:
    """A segmentation task with a tiny network on 24×24 windows, without augmentation."""
    return Segmentation(
        Segmentation.Settings(**{"image_size": 24, "augment": None, **settings}),
        network=network,
        training=Training(**{"learning_rate": 3e-3, **(training or {})}),
        contrasts=("ED", "ES", "LGE"),
        sites={
            name: Site(data=BidsData(path=Path("nowhere")), **given)
            for name, given in (sites or LABELS).items()
        },
        device=device,
    )


def states(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def one(task: Segmentation, *cases: HeartCase, site: str = "ivy") -> tuple[Batch, ...]:
    """What a step sees of these cases, all at once."""
    return next(task.data(site, cases).batches(numpy_stream(0), None, len(cases)))


def trained(task: Segmentation, effort: Effort = EFFORT, **how: Any) -> tuple[SegmentationModel, dict]:
    model = task.build("ivy", 1)
    data = task.data("ivy", [HeartCase(seed=seed) for seed in range(3)])
    return model, task.fit(model, data, effort, task.optimisers(model), **how)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())

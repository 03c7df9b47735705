"""Prepared cases that live in memory, and small synthesis tasks on them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config.base import Component
from polysite.config.site import Site
from polysite.config.sources import BidsData
from polysite.config.training import Training
from polysite.tasks.synthesis import Synthesis

CONTRASTS = ("T1w", "T2w", "FLAIR")
TINY = Component(name="pflsynth", width=4, n_blocks=2, latent=8, mapper_depth=2)


@dataclass
class MemoryCase:
    """Looks like a prepared case; smooth random blobs, and T2w = -T1w, FLAIR = T1w²."""

    subject: str = "01"
    site: str = "north"
    shape: tuple[int, int, int] = (6, 24, 24)
    seed: int = 0
    contrasts: tuple[str, ...] = CONTRASTS
    session: str | None = None
    volumes: dict[str, NDArray[np.float16]] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        coarse = rng.uniform(-1, 1, (self.shape[0], 4, 4))
        base = np.kron(coarse, np.ones((1, self.shape[1] // 4, self.shape[2] // 4)))
        made = {"T1w": base, "T2w": -base, "FLAIR": 2 * base**2 - 1}
        self.volumes = {name: made[name].astype(np.float16) for name in self.contrasts}

    @property
    def key(self) -> str:
        return f"sub-{self.subject}"

    def volume(self, contrast: str) -> NDArray[np.float16]:
        return self.volumes[contrast]

    slices = volume

    def mask(self) -> NDArray[np.bool_]:
        return np.ones(self.shape, dtype=bool)


def small_task(
    tasks: dict[str, list[str]] | None = None,
    network: Component = TINY,
    training: dict[str, Any] | None = None,
    **settings: Any,
) -> Synthesis:
    """A synthesis task with a tiny network on 24×24 slices."""
    return Synthesis(
        Synthesis.Settings(**{"image_size": 24, "discriminator_width": 4, **settings}),
        network=network,
        training=Training(**{"batch_size": 4, **(training or {})}),
        contrasts=CONTRASTS,
        sites={
            name: Site(data=BidsData(path=Path("nowhere")), tasks=tuple(texts))
            for name, texts in (tasks or {"north": ["T1w->T2w", "T1w->FLAIR"], "south": ["T1w->T2w"]}).items()
        },
    )

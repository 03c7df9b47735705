"""Slices of one site, or of several pooled, as batches with one code per sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polysite.config.site import parse_task
from polysite.data.cache import PreparedCase
from polysite.data.sampling import SliceSampler


@dataclass(frozen=True)
class Batch:
    """Paired slices and their codes."""

    source: Tensor
    """(batch, 1, x, y) in [-1, 1]"""
    target: Tensor
    """(batch, 1, x, y) in [-1, 1]"""
    site: Tensor
    """(batch,) index of the site"""
    source_contrast: Tensor
    target_contrast: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


class SiteSlices:
    """The slices of one site's cases, every slice with the tasks that its case allows.

    Parameters
    ----------
    site : int
        The site's code.
    contrasts : sequence of str
        All contrasts in code order.
    """

    n_members = 1

    def __init__(
        self,
        site: int,
        contrasts: Sequence[str],
        tasks: Sequence[str],
        cases: Sequence[PreparedCase],
        image_size: int | tuple[int, int],
    ) -> None:
        pairs = [parse_task(text) for text in tasks]
        self._sampler = SliceSampler(cases, pairs, image_size)
        self._site = site
        self._codes = torch.tensor(
            [[contrasts.index(source), contrasts.index(target)] for source, target in pairs]
        )

    @property
    def n_samples(self) -> int:
        """Number of slices."""
        return self._sampler.n_slices

    def plan(self, rng: np.random.Generator, n: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Rows (n, 3) of case, slice and task."""
        return self._sampler.plan(rng, n)

    def take(self, rows: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Batch:
        """The slices of the plan's rows."""
        arrays = self._sampler.take(rows)
        codes = self._codes[torch.from_numpy(arrays["task"])]
        return Batch(
            source=torch.from_numpy(arrays["source"]),
            target=torch.from_numpy(arrays["target"]),
            site=torch.full((len(rows),), self._site, dtype=torch.int64),
            source_contrast=codes[:, 0],
            target_contrast=codes[:, 1],
        )

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Batch]:
        """Batches of one round; ``n_steps=None`` is one epoch, whose last batch may be smaller."""
        rows = self.plan(rng, self.n_samples if n_steps is None else n_steps * batch_size)
        for start in range(0, len(rows), batch_size):
            yield self.take(rows[start : start + batch_size])


class PooledSlices:
    """The slices of several sites as one data set; a round is as long as all their rounds together."""

    def __init__(self, members: Sequence[SiteSlices]) -> None:
        self._members = members
        self.n_members = len(members)

    @property
    def n_samples(self) -> int:
        """Number of slices of all members."""
        return sum(member.n_samples for member in self._members)

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Batch]:
        """Batches that mix the sites at random, each slice with its own site's code."""
        plans = [
            member.plan(rng, member.n_samples if n_steps is None else n_steps * batch_size)
            for member in self._members
        ]
        rows = np.concatenate([np.insert(plan, 0, index, axis=1) for index, plan in enumerate(plans)])
        rows = rows[rng.permutation(len(rows))]
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            parts = [
                member.take(chunk[chunk[:, 0] == index, 1:])
                for index, member in enumerate(self._members)
                if (chunk[:, 0] == index).any()
            ]
            yield Batch(
                **{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
            )

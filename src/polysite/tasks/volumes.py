"""Labelled volumes of one site, or of several pooled, as batches; each volume keeps its site's head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polysite.data.frame import about_centre
from polysite.errors import DataError
from polysite.tasks.augment import Augment, draw, moved, recoloured
from polysite.tasks.labelling import Labelling

Plan = NDArray[np.int64]


class LabelledCase(Protocol):
    """What of a prepared case the loader reads."""

    @property
    def part(self) -> str:
        """The image's name."""
        ...

    def volume(self, contrast: str) -> NDArray[Any]:
        """Normalised, (z, x, y)."""
        ...

    def labels(self) -> NDArray[Any] | None:
        """The label image's own values, (z, x, y), where there is one."""
        ...


@dataclass(frozen=True)
class Sample:
    """One volume for training or validation."""

    image: NDArray[np.float32]
    """(z, x, y)"""
    labels: NDArray[np.int64]
    """(z, x, y), class indices."""
    labelling: Labelling


@dataclass(frozen=True)
class Batch:
    """Volumes of one size and one head."""

    image: Tensor
    """(batch, 1, z, x, y)"""
    labels: Tensor
    """(batch, z, x, y) int64, class indices."""
    groups: Tensor | None
    """(batch, class) int64, see ``polysite.losses.annotation``; None where every class is labelled."""
    head: str

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        groups = None if self.groups is None else self.groups.to(device)
        return Batch(self.image.to(device), self.labels.to(device), groups, self.head)


def collate(samples: Sequence[Sample]) -> tuple[Batch, ...]:
    """Samples as batches, one for each head and number of slices.

    Volumes of different depth are never padded to one size: slices of air would change a group norm's
    statistics and what attention sees, even where the loss leaves them out.
    """
    alike: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        alike.setdefault((sample.labelling.head, len(sample.image)), []).append(sample)
    return tuple(_stack(head, members) for (head, _), members in alike.items())


def _stack(head: str, samples: Sequence[Sample]) -> Batch:
    groups = torch.tensor([sample.labelling.groups for sample in samples])
    complete = bool((groups == torch.arange(groups.shape[1])).all())
    return Batch(
        image=torch.from_numpy(np.stack([sample.image for sample in samples]))[:, None],
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        groups=None if complete else groups,
        head=head,
    )


class SiteVolumes:
    """The labelled cases of one site.

    Parameters
    ----------
    labelling : Labelling
        The site's.
    cases : sequence of LabelledCase
        Those without a label image are left out.
    image_size : int or (int, int)
        Slices are cropped or padded to it about their centre.
    n_slices : int, optional
        Training takes a random run of so many neighbouring slices of a volume that has more.
    augment : Augment, optional
        How training volumes are changed; default: not.
    """

    def __init__(
        self,
        labelling: Labelling,
        cases: Sequence[LabelledCase],
        image_size: int | tuple[int, int],
        n_slices: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        self._cases = [case for case in cases if case.labels() is not None]
        self._labelling, self._image_size = labelling, image_size
        self._n_slices, self._augment = n_slices, augment

    @property
    def n_samples(self) -> int:
        """Number of labelled volumes."""
        return len(self._cases)

    def plan(self, rng: np.random.Generator, n: int) -> Plan:
        """Draw n volumes in shuffled epochs without replacement, each with a seed for what is random in it.

        Returns
        -------
        NDArray of int64, (n, 2)
            Case and seed.

        Raises
        ------
        DataError
            If there is no volume to draw.
        """
        if n and not self._cases:
            raise DataError("no case has a label image")
        epochs = [rng.permutation(len(self._cases)) for _ in range(-(-n // max(len(self._cases), 1)))]
        order = np.concatenate([*epochs, np.empty(0, dtype=np.int64)])[:n]
        return np.column_stack([order, rng.integers(2**63 - 1, size=n)])

    def take(self, case: int, seed: int) -> Sample:
        """The training sample of a plan's row."""
        rng = np.random.default_rng(seed)
        image, labels = self._read(case)
        if self._n_slices is not None and len(image) > self._n_slices:
            first = int(rng.integers(len(image) - self._n_slices + 1))
            chosen = slice(first, first + self._n_slices)
            image, labels = image[chosen], labels[chosen]
        if self._augment is None:
            return self._windowed(image, labels)
        change = draw(self._augment, rng)
        sample = self._windowed(*moved(image, labels, change, self._augment))
        return Sample(recoloured(sample.image, change, self._augment), sample.labels, sample.labelling)

    def plain(self, case: int) -> Sample:
        """A volume with all its slices, as it is."""
        return self._windowed(*self._read(case))

    def _read(self, case: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = self._cases[case]
        raw = chosen.labels()
        assert raw is not None
        return np.asarray(chosen.volume(chosen.part), dtype=np.float32), self._labelling.indices(raw)

    def _windowed(self, image: NDArray[np.float32], labels: NDArray[np.int64]) -> Sample:
        window = about_centre(image.shape, self._image_size)
        return Sample(window.cut(image, fill=float(image.min())), window.cut(labels, fill=0), self._labelling)


class Volumes:
    """The volumes of one site, or of several as one data set; a round is as long as all their rounds together."""

    def __init__(self, members: Sequence[SiteVolumes]) -> None:
        self.members = tuple(members)

    @property
    def n_members(self) -> int:
        """Number of sites."""
        return len(self.members)

    @property
    def n_samples(self) -> int:
        """Number of labelled volumes of all sites."""
        return sum(member.n_samples for member in self.members)

    def batches(
        self, rng: np.random.Generator, n_steps: int | None, batch_size: int
    ) -> Iterator[tuple[Batch, ...]]:
        """What each step of one round sees; ``n_steps=None`` is one epoch, whose last step may see less.

        Sites take turns at random. A step is a tuple because its volumes may differ in head and depth.
        """
        plans = [
            member.plan(rng, member.n_samples if n_steps is None else n_steps * batch_size)
            for member in self.members
        ]
        turns = rng.permutation(np.repeat(np.arange(len(plans)), [len(plan) for plan in plans]))
        rows = [iter(plan.tolist()) for plan in plans]
        for start in range(0, len(turns), batch_size):
            yield collate(
                [self.members[turn].take(*next(rows[turn])) for turn in turns[start : start + batch_size]]
            )

    def whole(self, rng: np.random.Generator, n: int) -> Iterator[Batch]:
        """At most n volumes of every site, each once, one by one, with all slices and unchanged."""
        for member in self.members:
            for case in rng.permutation(member.n_samples)[:n]:
                yield from collate([member.plain(int(case))])

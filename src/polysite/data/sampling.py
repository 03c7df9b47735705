"""Paired slices for training: which ones (a plan, drawn from a passed generator), and their values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.cache import PreparedCase
from polysite.data.frame import Window, bounding_box, centred, frame, unframe
from polysite.data.stored import StoredSlices
from polysite.errors import DataError

__all__ = ["SliceSampler", "Window", "bounding_box", "frame", "unframe"]

Plan = NDArray[np.int64]


class SliceSampler:
    """The slices of a site's cases that show enough of the head, with the tasks that each case allows.

    Parameters
    ----------
    cases : sequence of PreparedCase
        Cases that have both contrasts of no task are left out.
    tasks : sequence of (str, str)
        Source and target contrasts.
    image_size : int or (int, int)
        Slices are cropped or padded to it, about the centre of the mask's bounding box.
    min_foreground : float
        A slice counts if its mask is at least this share of the case's largest slice of mask. A share of
        the head and not of the image, so that the width of the field of view does not matter.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        tasks: Sequence[tuple[str, str]],
        image_size: int | tuple[int, int],
        *,
        min_foreground: float = 0.1,
    ) -> None:
        self.tasks = tuple(tasks)
        able = [[set(task) <= set(case.contrasts) for task in tasks] for case in cases]
        self._cases = [case for case, tasks_of in zip(cases, able, strict=True) if any(tasks_of)]
        self._tasks_of = [np.flatnonzero(tasks_of) for tasks_of in able if any(tasks_of)]
        self._volumes: list[dict[str, StoredSlices]] = []
        self._windows: list[Window] = []
        rows = []
        for number, case in enumerate(self._cases):
            mask = np.asarray(case.mask())
            area = mask.sum(axis=(1, 2))
            slices = np.flatnonzero((area > 0) & (area >= min_foreground * area.max()))
            rows.append(np.stack([np.full_like(slices, number), slices], axis=1))
            wanted = {contrast for task in self._tasks_of[number] for contrast in self.tasks[task]}
            self._volumes.append({contrast: case.slices(contrast) for contrast in sorted(wanted)})
            self._windows.append(centred(mask.shape, mask, image_size))
        self._slices: Plan = np.concatenate(rows) if rows else np.empty((0, 2), dtype=np.int64)
        self._size = (image_size, image_size) if isinstance(image_size, int) else image_size

    @property
    def n_slices(self) -> int:
        """Number of slices; weighs the site in an average."""
        return len(self._slices)

    def plan(self, rng: np.random.Generator, n: int) -> Plan:
        """Draw n slices in shuffled epochs without replacement, each with one of its case's tasks at random.

        Parameters
        ----------
        rng : numpy Generator
            The only source of randomness: the same state gives the same plan.

        Returns
        -------
        NDArray of int64, (n, 3)
            Case, slice and task.

        Raises
        ------
        DataError
            If there is no slice to draw.
        """
        if n and not self.n_slices:
            raise DataError("no case has a slice with foreground and both contrasts of a task")
        epochs = [rng.permutation(self.n_slices) for _ in range(-(-n // max(self.n_slices, 1)))]
        drawn = self._slices[np.concatenate(epochs)[:n]] if epochs else self._slices[:0]
        chance = rng.random(n)
        tasks = [
            self._tasks_of[case][int(part * len(self._tasks_of[case]))]
            for case, part in zip(drawn[:, 0], chance, strict=True)
        ]
        return np.column_stack([drawn, np.asarray(tasks, dtype=np.int64)])

    def take(self, rows: Plan) -> dict[str, NDArray[Any]]:
        """The slices of a plan's rows.

        Returns
        -------
        dict
            ``source`` and ``target``, (batch, 1, x, y) float32 in [-1, 1], and ``task``, (batch,) int64.
        """
        source = np.empty((len(rows), 1, *self._size), dtype=np.float32)
        target = np.empty_like(source)
        for place, (case, index, task) in enumerate(rows):
            from_contrast, to_contrast = self.tasks[task]
            volumes, window = self._volumes[case], self._windows[case]
            window.cut(volumes[from_contrast][index], source[place, 0])
            window.cut(volumes[to_contrast][index], target[place, 0])
        return {"source": source, "target": target, "task": np.ascontiguousarray(rows[:, 2])}

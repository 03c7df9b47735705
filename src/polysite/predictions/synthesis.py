"""Synthesis: an image of one contrast made from another, scored against the acquired one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config.site import parse_task
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.orient import canonical_affine, orientation_of, to_canonical
from polysite.errors import ConfigError
from polysite.evaluate.metrics import score_volume
from polysite.evaluate.table import Score
from polysite.image import Image, suffix_of, write_image
from polysite.predictions.derivative import GENERATED_BY, provenance
from polysite.predictions.predictor import Predictor
from polysite.tasks.synthesis import task_key

Volume = NDArray[np.float32]

DATA_RANGE = 1.0
"""Volumes are scored after the percentiles of the preparation were mapped to 0 and 1."""


class AppliedSynthesis:
    """See ``polysite.predictions.applied.Applied``; a job is a task, ``T1w->T2w``."""

    title = "Synthetic MR contrasts"
    needed = "both contrasts of a task"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.jobs = predictor.run.sites[predictor.site].tasks

    def named(self, text: str) -> str:
        """The task of ``--task``, which must be one of the site's."""
        try:
            task = "->".join(parse_task(text))
        except ValueError as error:
            raise ConfigError(f"--task: {error}") from error
        if task not in self.jobs:
            raise ConfigError(
                f"--task {task!r}: {self.predictor.site} was not trained for it; choose one of: "
                f"{', '.join(self.jobs)}"
            )
        return task

    def fitting(self, path: Path) -> str:
        """The task whose source contrast a file's name carries; the only one if the name carries none."""
        stem = path.name.removesuffix(suffix_of(path) or "")
        contrasts = self.predictor.run.contrasts
        carried = max((name for name in contrasts if stem.endswith(name)), key=len, default=None)
        fitting = [task for task in self.jobs if carried in (None, self.source(task))]
        if not fitting:
            raise ConfigError(
                f"{path}: shows {carried} by its name, but the tasks are {', '.join(self.jobs)}; "
                "if it shows something else, name the task with --task"
            )
        if len(fitting) > 1:
            raise ConfigError(
                f"{path}: the task is not clear from the name; add --task with one of: {', '.join(fitting)}"
            )
        return fitting[0]

    def source(self, job: str) -> str:
        """The source contrast."""
        return parse_task(job)[0]

    def image(self, case: PreparedCase, job: str) -> Image:
        """The synthetic volume in [0, 1] on the native grid of the case's reference contrast; 0 outside."""
        made: Volume = self.predictor.task.predict(self.predictor.model, case, job, self.predictor.site)
        volume = (made + np.float32(1)) / np.float32(2)
        return replace(case.to_native(volume, outside=0.0), contrast=parse_task(job)[1])

    def write(self, image: Image, path: Path) -> None:
        """As float32."""
        write_image(image, path)

    def name(self, case: Case, job: str) -> str:
        """Tasks with one target differ by ``rec-``."""
        source, target = (re.sub(r"[^A-Za-z0-9]", "", contrast) for contrast in parse_task(job))
        return f"rec-{source}_desc-synth_{target}"

    def about(self, job: str) -> dict[str, Any]:
        """BIDS' own keys, then ours."""
        source, target = parse_task(job)
        return {
            "Description": f"Synthetic {target} made from {source}; not for diagnosis. 0 and 1 are the percentiles "
            "to which the run's preparation maps each volume.",
            "Units": "arbitrary",
            "GeneratedBy": [GENERATED_BY],
            "Task": job,
            **provenance(self.predictor.run, self.predictor.site),
        }

    def describe(self, folder: Path) -> None:
        """Nothing."""

    def has_truth(self, case: PreparedCase, found: Case, job: str) -> bool:
        """Whether the case has both contrasts."""
        return all(contrast in case.contrasts for contrast in parse_task(job))

    def compared(self, case: PreparedCase, found: Case, image: Image, job: str) -> "ComparedVolume":
        """The synthetic volume beside the acquired one."""
        return ComparedVolume.of(self.predictor, case, image, job)

    def completed(self, scores: Sequence[Score]) -> list[Score]:
        """As they are."""
        return list(scores)


@dataclass(frozen=True)
class ComparedVolume:
    """A case's images in [0, 1] on the native grid, with axes turned to (right, anterior, superior)."""

    predictor: Predictor
    case: PreparedCase
    job: str
    source: Volume
    synthetic: Volume
    target: Volume
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, predictor: Predictor, case: PreparedCase, synthetic: Image, job: str) -> "ComparedVolume":
        """From a prepared case and its synthetic image on the native grid."""
        orientation = orientation_of(synthetic.affine)

        def native(prepared: NDArray[Any]) -> Volume:
            return to_canonical(case.to_native(prepared.astype(np.float32), outside=0.0).array, orientation)

        canonical = canonical_affine(synthetic.affine, orientation, synthetic.array.shape)
        x, y, z = np.linalg.norm(canonical[:3, :3], axis=0).tolist()
        source, target = parse_task(job)
        return cls(
            predictor,
            case,
            job,
            source=native((np.asarray(case.volume(source), np.float32) + 1) / 2),
            synthetic=to_canonical(synthetic.array, orientation),
            target=native((np.asarray(case.volume(target), np.float32) + 1) / 2),
            mask=native(np.asarray(case.mask())) > 0.5,
            spacing_mm=(x, y, z),
        )

    def scores(self) -> list[Score]:
        """One score, inside the mask that the run names."""
        run = self.predictor.run
        mask = run.evaluate.mask
        score = score_volume(
            self.synthetic,
            self.target,
            data_range=DATA_RANGE,
            mask=self.mask if mask == "foreground" else None,
        )
        return [
            Score(
                kind="synthesis",
                method=run.method,
                seed=run.seed,
                site=self.predictor.site,
                subject=self.case.subject,
                session=self.case.session,
                task=self.job,
                metrics={"psnr_db": score.psnr_db, "ssim": score.ssim, "nrmse": score.nrmse},
                details={"n_voxels": score.n_voxels, "data_range": DATA_RANGE, "mask": mask},
            )
        ]

    def write_example(self, path: Path) -> None:
        """Keep the middle axial slice of the mask for the report."""
        slices = np.flatnonzero(self.mask.any(axis=(0, 1)))
        middle = int(slices[len(slices) // 2]) if len(slices) else self.mask.shape[2] // 2
        path.mkdir(parents=True, exist_ok=True)
        with (path / f"{task_key(self.job)}.npz").open("wb") as file:
            np.savez_compressed(
                file,
                source=self.source[..., middle],
                synthetic=self.synthetic[..., middle],
                target=self.target[..., middle],
                mask=self.mask[..., middle],
                spacing_mm=np.array(self.spacing_mm[:2]),
                subject=self.case.subject,
                slice=middle,
            )

"""Segmentation: every voxel of an image gets one of the site's labels, scored against the site's own."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config.site import Site, values_of
from polysite.data.bids import entities_of
from polysite.data.cache import PreparedCase
from polysite.data.case import Case, label_of
from polysite.data.labels import native_labels
from polysite.data.single import volume_of
from polysite.errors import ConfigError, DataError
from polysite.evaluate.table import Score, replace_text
from polysite.image import Image, write_image
from polysite.losses.annotation import labelled_as
from polysite.predictions.derivative import GENERATED_BY, provenance
from polysite.predictions.outlines import write_outlines
from polysite.predictions.overlap import score_region, with_ejection_fraction
from polysite.predictions.predictor import Predictor

Labels = NDArray[np.int32]

BIDS_ORDER = (
    "task",
    "acq",
    "ce",
    "trc",
    "stain",
    "rec",
    "dir",
    "run",
    "mod",
    "echo",
    "flip",
    "inv",
    "mt",
    "part",
)
"""In which order BIDS wants the entities of a name."""


class AppliedSegmentation:
    """See ``polysite.predictions.applied.Applied``; a job is an image's name, ``ED``."""

    title = "Segmentations"
    needed = "an image with a label image"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.jobs = predictor.run.contrasts
        self.site = predictor.run.sites[predictor.site]
        self.classes: tuple[str, ...] = predictor.task.classes(predictor.site)
        self.written = written_values(self.classes, self.site)

    @property
    def scored(self) -> tuple[str, ...]:
        """The classes that the site labels and the model knows."""
        return tuple(name for name in self.classes[1:] if name in self.site.labels)

    @property
    def names(self) -> dict[int, str]:
        """What a predicted label image may hold: value -> class."""
        return {0: self.classes[0]} | {values_of(self.site.labels[name])[0]: name for name in self.scored}

    def named(self, text: str) -> str:
        """The image that ``--task`` names."""
        if text not in self.jobs:
            raise ConfigError(
                f"--task {text!r}: this run segments images; choose one of: {', '.join(self.jobs)}, or leave "
                "it out"
            )
        return text

    def fitting(self, path: Path) -> str:
        """The image whose name a file's name holds; else the first, because the model treats all alike."""
        words = set(re.split(r"[^A-Za-z0-9]+", path.name))
        return next((name for name in self.jobs if label_of(name) in words), self.jobs[0])

    def source(self, job: str) -> str:
        """The image itself."""
        return job

    def image(self, case: PreparedCase, job: str) -> Image:
        """The site's own label values on the image's own grid.

        The probabilities of classes that are one label at the site are added, brought to the native grid by
        linear interpolation, and the most probable label wins. Outside the prepared grid is background.
        """
        probabilities: NDArray[np.float32] = self.predictor.task.predict(
            self.predictor.model, case, self.predictor.site
        )
        if len(probabilities) != len(self.classes):
            raise DataError(
                f"{case.key} at {case.site}: {len(probabilities)} probabilities a voxel for the classes "
                f"{', '.join(self.classes)}"
            )
        best = labels = None
        for value in dict.fromkeys(self.written):
            members = [index for index, written in enumerate(self.written) if written == value]
            native = case.to_native(
                probabilities[members].sum(axis=0), contrast=job, outside=0.0 if value else 1.0
            )
            if best is None or labels is None:
                best, labels = native.array.copy(), np.full(native.shape, value, np.float32)
            else:
                larger = native.array > best
                best[larger], labels[larger] = native.array[larger], value
        assert labels is not None
        return replace(native, array=labels)

    def write(self, image: Image, path: Path) -> None:
        """As the smallest unsigned integers that hold the site's values."""
        write_image(image, path, dtype="uint8" if max(self.written) < 256 else "uint16")

    def name(self, case: Case, job: str) -> str:
        """The image's own entities; ``rec-`` names the image where they do not."""
        parsed = entities_of(case.images[job].name)
        entities = {
            key: value
            for key, value in (parsed[0] if parsed else {}).items()
            if key not in ("sub", "ses", "desc")
        }
        if label_of(job) not in entities.values():
            entities["rec"] = entities.get("rec", "") + label_of(job)
        ordered = sorted(
            entities, key=lambda key: BIDS_ORDER.index(key) if key in BIDS_ORDER else len(BIDS_ORDER)
        )
        return "_".join([*(f"{key}-{entities[key]}" for key in ordered), "desc-pred", "dseg"])

    def about(self, job: str) -> dict[str, Any]:
        """BIDS' own keys, then ours."""
        return {
            "Description": "Labels predicted by a network; not for diagnosis.",
            "Manual": False,
            "GeneratedBy": [GENERATED_BY],
            "Labels": {name: value for value, name in self.names.items()},
            **provenance(self.predictor.run, self.predictor.site),
        }

    def describe(self, folder: Path) -> None:
        """``dseg.tsv``, which names the values of all label images below."""
        lines = ["index\tname", *(f"{value}\t{name}" for value, name in sorted(self.names.items()))]
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "dseg.tsv", "\n".join(lines) + "\n")

    def has_truth(self, case: PreparedCase, found: Case, job: str) -> bool:
        """Whether the case is this image and has labels."""
        return job in case.contrasts and job in found.labels

    def compared(self, case: PreparedCase, found: Case, image: Image, job: str) -> "ComparedLabels":
        """The predicted labels beside the site's own."""
        return ComparedLabels(self, found, image, job)

    def completed(self, scores: Sequence[Score]) -> list[Score]:
        """With the ejection fraction of every subject whose images allow it."""
        return with_ejection_fraction(scores)


class ComparedLabels:
    """Predicted labels of one image beside the site's own, on the native grid."""

    def __init__(self, applied: AppliedSegmentation, found: Case, image: Image, job: str) -> None:
        self.applied, self.found, self.image, self.job = applied, found, image, job
        truth = native_labels(found, job)
        if truth is None:
            raise DataError(f"{found.key} at {found.site}: {job} has no label image")
        self.truth, self.predicted = truth.astype(np.int32), _integers(volume_of(image))

    def scores(self) -> list[Score]:
        """A score for each class that the site labels."""
        predictor, labels = self.applied.predictor, self.applied.site.labels
        rows = []
        for name in self.applied.scored:
            values = values_of(labels[name])
            score = score_region(
                self.predicted == values[0], np.isin(self.truth, values), spacing_mm=self.image.spacing_mm
            )
            rows.append(
                Score(
                    kind="segmentation",
                    method=predictor.run.method,
                    seed=predictor.run.seed,
                    site=predictor.site,
                    subject=self.found.subject,
                    session=self.found.session,
                    image=self.job,
                    task=name,
                    metrics={
                        "dice": score.dice,
                        "hd95_mm": score.hd95_mm,
                        "assd_mm": score.assd_mm,
                        "volume_error_ml": score.volume_error_ml,
                        "ef_error_percent": None,
                    },
                    details={
                        "volume_ml": score.volume_ml,
                        "true_volume_ml": score.true_volume_ml,
                        "ef_percent": None,
                        "true_ef_percent": None,
                    },
                )
            )
        return rows

    def write_example(self, path: Path) -> None:
        """Keep three slices of the image with both outlines for the report."""
        names = self.applied.names
        truth = np.zeros_like(self.truth)
        for value, name in names.items():
            if value:
                truth[np.isin(self.truth, values_of(self.applied.site.labels[name]))] = value
        write_outlines(
            path / f"{self.job}.npz",
            image=volume_of(self.found.image(self.job)),
            truth=truth,
            predicted=self.predicted,
            affine=self.image.affine,
            names=names,
            subject=self.found.subject,
        )


def written_values(classes: Sequence[str], site: Site) -> tuple[int, ...]:
    """For each class of a model, the value that its voxels get in the site's label images.

    A class that the site does not label has the label of what it is part of, or the background's.

    >>> from polysite.config.sources import PhantomData
    >>> site = Site(data=PhantomData(hospital="x"), labels={"LV": 3, "MYO": (2, 4)}, part_of={"infarct": "MYO"})
    >>> written_values(["background", "LV", "MYO", "RV", "infarct"], site)
    (0, 3, 2, 0, 2)
    """
    annotated = [name for name in site.labels if name in classes]
    part_of = {part: whole for part, whole in site.part_of.items() if part in classes and whole in classes}
    groups = labelled_as(classes, annotated, part_of)
    return tuple(values_of(site.labels[classes[group]])[0] if group else 0 for group in groups)


def _integers(array: NDArray[np.float32]) -> Labels:
    return np.rint(array).astype(np.int32)

"""Trained models applied to whole volumes: predictions as BIDS derivatives, and their scores."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from polysite import __version__
from polysite.config import BidsData, Run, parse_task
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.orient import canonical_affine, orientation_of, to_canonical
from polysite.data.prepare import prepare_case
from polysite.errors import ConfigError, DataError
from polysite.evaluate.metrics import score_volume
from polysite.evaluate.table import Score, write_scores
from polysite.federation.crew import make_task
from polysite.federation.store import read_tensors
from polysite.image import Image, write_image
from polysite.registry import lookup
from polysite.run import open_run, prepared_cases
from polysite.tasks.synthesis import task_key
from polysite.threads import cores

Volume = NDArray[np.float32]

DATA_RANGE = 1.0
"""Volumes are scored after the percentiles of the preparation were mapped to 0 and 1."""


class Predictor:
    """The trained model of one site of a run.

    Raises
    ------
    ConfigError
        If the run has no such site, or its training has not ended.
    """

    def __init__(self, folder: Path, run: Run, site: str) -> None:
        if site not in run.sites:
            raise ConfigError(f"{folder}: has no site {site!r}; choose one of: {', '.join(run.sites)}")
        path = folder / "sites" / site / "model.safetensors"
        if not path.exists():
            raise ConfigError(f"{path}: is missing: the training has not ended; go on with --resume {folder}")
        self.run, self.site = run, site
        torch.set_num_threads(run.engine.settings.get("threads") or cores())
        self._task: Any = make_task(run)
        self._model: nn.Module = self._task.build(site, None)
        self._model.load_state_dict(read_tensors(path))

    def volume(self, case: PreparedCase, text: str) -> Volume:
        """One task's synthetic volume, (z, x, y) in [0, 1] on the prepared grid."""
        synthetic: Volume = self._task.predict(self._model, case, text, self.site)
        return (synthetic + np.float32(1)) / np.float32(2)

    def image(self, case: PreparedCase, text: str) -> Image:
        """The same on the native grid of the case's reference contrast; 0 outside."""
        return replace(case.to_native(self.volume(case, text), outside=0.0), contrast=parse_task(text)[1])


def evaluate(folder: Path, progress: Any = None) -> list[Score]:
    """Predict and score every case of the run's evaluation split; writes predictions, examples and scores.csv."""
    run = open_run(folder)
    split = run.evaluate.split
    scores: list[Score] = []
    for site, cases in prepared_cases(run, folder).items():
        predictor = Predictor(folder, run, site)
        out = folder / "predictions" / site
        describe_derivative(out, run)
        for text in run.sites[site].tasks:
            source, target = parse_task(text)
            able = [case for case in cases[split] if source in case.contrasts and target in case.contrasts]
            for number, case in enumerate(able):
                if progress:
                    progress(f"{site}: {case.key} {text}")
                image = predictor.image(case, text)
                write_prediction(out, case, image, text, predictor)
                shown = _Shown.of(case, image, source, target)
                score = score_volume(
                    shown.synthetic,
                    shown.target,
                    data_range=DATA_RANGE,
                    mask=shown.mask if run.evaluate.mask == "foreground" else None,
                )
                scores.append(
                    Score(
                        method=run.method,
                        seed=run.seed,
                        site=site,
                        subject=case.subject,
                        session=case.session,
                        task=text,
                        psnr_db=score.psnr_db,
                        ssim=score.ssim,
                        nrmse=score.nrmse,
                        n_voxels=score.n_voxels,
                        data_range=DATA_RANGE,
                        mask=run.evaluate.mask,
                    )
                )
                if number == 0:
                    shown.write_example(out / "examples" / f"{task_key(text)}.npz", case.subject)
    if not scores:
        raise DataError(
            f"{folder}: no case of the {split!r} split has both contrasts of a task; nothing to score"
        )
    write_scores(folder / "scores.csv", scores)
    return scores


def predict(folder: Path, site: str, source: Path, out: Path, text: str | None = None) -> list[Path]:
    """Apply a site's model to one volume or to a BIDS folder.

    Parameters
    ----------
    source : Path
        A volume, or a BIDS folder of which every case with a fitting contrast is taken.
    out : Path
        A file for a volume; the folder of a BIDS derivative for a folder.
    text : str or None
        The task; default: all of the site's tasks (of a volume: the one that fits its name).

    Returns
    -------
    list of Path
        The volumes written.
    """
    run = open_run(folder)
    predictor = Predictor(folder, run, site)
    tasks = run.sites[site].tasks if text is None else ("->".join(parse_task(text)),)
    if source.is_dir():
        describe_derivative(out, run)
        reader = lookup("readers", "bids")
        cases: list[Case] = reader(site, BidsData(path=source), run.contrasts)
        written = [
            write_prediction(out, case, predictor.image(case, task), task, predictor)
            for found in cases
            for task in tasks
            if parse_task(task)[0] in found.images
            for case in _prepared(found, parse_task(task)[0], run, site)
        ]
        if not written:
            raise DataError(f"{source}: no case has a source contrast of {', '.join(tasks)}")
        return written
    if not source.exists():
        raise DataError(f"{source}: does not exist; give a volume or a BIDS folder")
    task = _task_of(source, tasks)
    found = Case(
        site=site, subject=source.name.split(".")[0], session=None, images={parse_task(task)[0]: source}
    )
    for case in _prepared(found, parse_task(task)[0], run, site):
        write_image(predictor.image(case, task), out)
        write_sidecar(out, {**provenance(predictor, task), "Sources": [str(source)]})
    return [out]


def _prepared(found: Case, source: str, run: Run, site: str) -> Iterator[PreparedCase]:
    """One contrast of a case, prepared in a folder that goes away afterwards."""
    alone = replace(found, images={source: found.images[source]})
    with tempfile.TemporaryDirectory(prefix="polysite-") as folder:
        yield prepare_case(alone, run.sites[site].prepare or run.prepare, Path(folder))


def _task_of(path: Path, tasks: tuple[str, ...]) -> str:
    """The task whose source contrast a file's name carries; the only one if there is but one."""
    stem = path.name.split(".")[0]
    fitting = [task for task in tasks if stem.endswith(parse_task(task)[0])] or list(tasks)
    if len(fitting) != 1:
        raise ConfigError(
            f"{path}: the task is not clear from the name; add --task with one of: {', '.join(fitting)}"
        )
    return fitting[0]


# --- BIDS derivative ----------------------------------------------------------------------------------


def describe_derivative(folder: Path, run: Run) -> None:
    """Write ``dataset_description.json`` of a folder of predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": f"Synthetic MR contrasts, run {run.name}, method {run.method}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "Polysite", "Version": __version__}],
    }
    (folder / "dataset_description.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def write_prediction(folder: Path, case: PreparedCase, image: Image, text: str, predictor: Predictor) -> Path:
    """Write one volume with its sidecar into a BIDS derivative; tasks with one target differ by ``rec-``."""
    source, target = parse_task(text)
    subject = case.subject.removeprefix("sub-")
    session = (case.session or "").removeprefix("ses-")
    parts = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
    stem = "_".join([*parts, f"rec-{source}", "desc-synth", target])
    path = folder.joinpath(*parts, "anat", f"{stem}.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(image, path)
    write_sidecar(
        path, {**provenance(predictor, text), "Sources": [f"bids:raw:{'/'.join(parts)}/anat ({source})"]}
    )
    return path


def provenance(predictor: Predictor, text: str) -> Mapping[str, Any]:
    """What made a volume."""
    return {
        "Description": f"Synthetic {parse_task(text)[1]} made from {parse_task(text)[0]}; not for diagnosis",
        "Task": text,
        "Site": predictor.site,
        "Method": predictor.run.method,
        "Run": predictor.run.digest(),
        "Units": "arbitrary: 0 and 1 are the percentiles of the run's preparation",
        "GeneratedBy": f"Polysite {__version__}",
    }


def write_sidecar(image: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON beside an image."""
    path = image.with_name(image.name.split(".")[0] + ".json")
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


# --- truth --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A case's images in [0, 1] on the native grid, with axes turned to (right, anterior, superior)."""

    source: Volume
    synthetic: Volume
    target: Volume
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, case: PreparedCase, synthetic: Image, source: str, target: str) -> "_Shown":
        """From a prepared case and its synthetic image on the native grid."""
        orientation = orientation_of(synthetic.affine)

        def native(prepared: NDArray[Any]) -> Volume:
            return to_canonical(case.to_native(prepared.astype(np.float32), outside=0.0).array, orientation)

        canonical = canonical_affine(synthetic.affine, orientation, synthetic.array.shape)
        x, y, z = np.linalg.norm(canonical[:3, :3], axis=0).tolist()
        return cls(
            source=native((np.asarray(case.volume(source), np.float32) + 1) / 2),
            synthetic=to_canonical(synthetic.array, orientation),
            target=native((np.asarray(case.volume(target), np.float32) + 1) / 2),
            mask=native(np.asarray(case.mask())) > 0.5,
            spacing_mm=(x, y, z),
        )

    def write_example(self, path: Path, subject: str) -> None:
        """Keep the middle axial slice of the mask for the report."""
        slices = np.flatnonzero(self.mask.any(axis=(0, 1)))
        middle = int(slices[len(slices) // 2]) if len(slices) else self.mask.shape[2] // 2
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                source=self.source[..., middle],
                synthetic=self.synthetic[..., middle],
                target=self.target[..., middle],
                mask=self.mask[..., middle],
                spacing_mm=np.array(self.spacing_mm[:2]),
                subject=subject,
                slice=middle,
            )

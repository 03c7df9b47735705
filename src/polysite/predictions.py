"""Trained models applied to whole volumes: predictions as BIDS derivatives, and their scores."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from polysite import __version__, recipe
from polysite.cases import Progress, find_cases
from polysite.config import BidsData, Run, parse_task
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.orient import canonical_affine, orientation_of, to_canonical
from polysite.data.prepare import prepare_case
from polysite.errors import CheckpointError, ConfigError, DataError
from polysite.evaluate.metrics import score_volume
from polysite.evaluate.table import Score, replace_text, write_scores
from polysite.federation.crew import make_task
from polysite.federation.tensor_files import read_tensors
from polysite.image import NIFTI, Image, suffix_of, write_image
from polysite.registry import lookup
from polysite.run import open_run, prepared_cases, require_device
from polysite.seal import trained_model
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
        If the run has no such site, or the machine has no such device.
    CheckpointError
        If the training has not ended, or the model's file is damaged.
    """

    def __init__(self, folder: Path, run: Run, site: str) -> None:
        if site not in run.sites:
            raise ConfigError(f"{folder}: has no site {site!r}; choose one of: {', '.join(run.sites)}")
        path = trained_model(folder, site)
        require_device(run.device)
        self.run, self.site = run, site
        torch.set_num_threads(run.engine.settings.get("threads") or cores())
        self._task: Any = make_task(run)
        self._model: nn.Module = self._task.build(site, None)
        try:
            self._model.load_state_dict(read_tensors(path))
        except RuntimeError as error:
            raise CheckpointError(
                f"{path}: does not fit the networks of {folder / 'config.yaml'}; restore both from one backup"
            ) from error

    def volume(self, case: PreparedCase, text: str) -> Volume:
        """One task's synthetic volume, (z, x, y) in [0, 1] on the prepared grid."""
        synthetic: Volume = self._task.predict(self._model, case, text, self.site)
        return (synthetic + np.float32(1)) / np.float32(2)

    def image(self, case: PreparedCase, text: str) -> Image:
        """The same on the native grid of the case's reference contrast; 0 outside."""
        return replace(case.to_native(self.volume(case, text), outside=0.0), contrast=parse_task(text)[1])


def evaluate(folder: Path, progress: Progress | None = None, *, device: str | None = None) -> list[Score]:
    """Predict and score every case of the run's evaluation split; writes predictions, examples and scores.csv."""
    run = _on_device(open_run(folder), device)
    split = run.evaluate.split
    scores: list[Score] = []
    for site in run.sites:
        trained_model(folder, site)  # before the work on the cases begins
    found = {(case.site, case.key): case for cases in find_cases(run, progress).values() for case in cases}
    for site, cases in prepared_cases(run, folder, progress).items():
        predictor = Predictor(folder, run, site)
        out = folder / "predictions" / site
        roots = {case.root for (owner, _), case in found.items() if owner == site}
        describe_derivative(out, run, next(iter(roots)) if len(roots) == 1 else None)
        for text in run.sites[site].tasks:
            source, target = parse_task(text)
            able = [case for case in cases[split] if source in case.contrasts and target in case.contrasts]
            for number, case in enumerate(able):
                if progress:
                    progress(f"{site}: predicting {case.key} {text}")
                image = predictor.image(case, text)
                write_prediction(out, found[site, case.key], image, text, predictor)
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
            f"{folder}: no case of the {split!r} split has both contrasts of a task, so there is nothing to score; "
            "name another split in evaluate.split of its config.yaml"
        )
    write_scores(folder / "scores.csv", scores)
    return scores


def predict(
    folder: Path, site: str, source: Path, out: Path, text: str | None = None, *, device: str | None = None
) -> list[Path]:
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
    run = _on_device(open_run(folder), device)
    predictor = Predictor(folder, run, site)
    tasks = run.sites[site].tasks if text is None else (_asked(text, run, site),)
    if source.is_dir():
        return _predict_folder(predictor, source, out, tasks)
    if not source.exists():
        raise DataError(f"{source}: does not exist; give a volume or a BIDS folder")
    return [_predict_volume(predictor, source, out, tasks, named=text is not None)]


def _predict_folder(predictor: Predictor, source: Path, out: Path, tasks: Sequence[str]) -> list[Path]:
    """Every case of a BIDS folder; the cases are found, and the place of the results is clear, before any work."""
    run, site = predictor.run, predictor.site
    data = run.sites[site].data
    endings = data.contrasts if isinstance(data, BidsData) else {}
    cases: list[Case] = lookup("readers", "bids")(
        site, BidsData(path=source, contrasts=endings), run.contrasts
    )
    work = [(case, task) for case in cases for task in tasks if parse_task(task)[0] in case.images]
    if not work:
        raise DataError(f"{source}: no case has a source contrast of {', '.join(tasks)}")
    description = out / "dataset_description.json"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _ours(description))):
        raise ConfigError(f"{out}: is there already and was not made by predict; choose another OUT")
    written = []
    for case, task in work:
        for prepared in _prepared(case, parse_task(task)[0], run, site):
            image = predictor.image(prepared, task)
            describe_derivative(out, run, source)
            written.append(write_prediction(out, case, image, task, predictor))
    return written


def _predict_volume(
    predictor: Predictor, source: Path, out: Path, tasks: Sequence[str], *, named: bool
) -> Path:
    if suffix_of(out) not in NIFTI:
        raise ConfigError(f"{out}: OUT must end in .nii.gz or .nii; change the name")
    if out.exists() and not _ours(_sidecar(out)):
        raise ConfigError(f"{out}: is there already and was not made by predict; choose another OUT")
    task = tasks[0] if named else _task_of(source, tasks, predictor.run.contrasts)
    contrast = parse_task(task)[0]
    found = Case(site=predictor.site, subject="input", session=None, images={contrast: source})
    for case in _prepared(found, contrast, predictor.run, predictor.site):
        write_image(predictor.image(case, task), out)
        write_sidecar(out, {**provenance(predictor, task), "Sources": [_absolute(source).as_uri()]})
    return out


def _on_device(run: Run, device: str | None) -> Run:
    if device is None:
        return run
    content = run.model_dump(mode="json") | {"device": device}
    return recipe.build(content, "--device")


def _asked(text: str, run: Run, site: str) -> str:
    """The task of ``--task``, which must be one of the site's."""
    tasks = run.sites[site].tasks
    try:
        task = "->".join(parse_task(text))
    except ValueError as error:
        raise ConfigError(f"--task: {error}") from error
    if task not in tasks:
        raise ConfigError(
            f"--task {task!r}: {site} was not trained for it; choose one of: {', '.join(tasks)}"
        )
    return task


def _prepared(found: Case, source: str, run: Run, site: str) -> Iterator[PreparedCase]:
    """One contrast of a case, prepared in a folder that goes away afterwards."""
    alone = replace(found, images={source: found.images[source]})
    with tempfile.TemporaryDirectory(prefix="polysite-") as folder:
        yield prepare_case(alone, run.sites[site].prepare or run.prepare, Path(folder))


def _task_of(path: Path, tasks: Sequence[str], contrasts: Sequence[str]) -> str:
    """The task whose source contrast a file's name carries; the only one if the name carries none."""
    stem = path.name.removesuffix(suffix_of(path) or "")
    carried = max((name for name in contrasts if stem.endswith(name)), key=len, default=None)
    fitting = [task for task in tasks if carried in (None, parse_task(task)[0])]
    if not fitting:
        raise ConfigError(
            f"{path}: shows {carried} by its name, but the tasks are {', '.join(tasks)}; "
            "if it shows something else, name the task with --task"
        )
    if len(fitting) > 1:
        raise ConfigError(
            f"{path}: the task is not clear from the name; add --task with one of: {', '.join(fitting)}"
        )
    return fitting[0]


# --- BIDS derivative ----------------------------------------------------------------------------------


GENERATED_BY = {"Name": "Polysite", "Version": __version__}


def _ours(path: Path) -> bool:
    """Whether a JSON file says that Polysite made what it describes."""
    try:
        made_by = json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"]
        return any(entry["Name"] == GENERATED_BY["Name"] for entry in made_by)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay links)


def describe_derivative(folder: Path, run: Run, raw: Path | None) -> None:
    """Write ``dataset_description.json`` of a folder of predictions.

    Parameters
    ----------
    raw : Path or None
        The data set that the sources are in; ``bids:raw:`` stands for it.
    """
    description = {
        "Name": f"Synthetic MR contrasts, run {run.name}, method {run.method}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [GENERATED_BY],
        **({"DatasetLinks": {"raw": _absolute(raw).as_uri()}} if raw else {}),
    }
    _write_json(folder / "dataset_description.json", description)


def write_prediction(folder: Path, case: Case, image: Image, text: str, predictor: Predictor) -> Path:
    """Write one volume with its sidecar into a BIDS derivative; tasks with one target differ by ``rec-``."""
    source, target = (re.sub(r"[^A-Za-z0-9]", "", contrast) for contrast in parse_task(text))
    parts = [f"sub-{case.subject}", *([f"ses-{case.session}"] if case.session else [])]
    stem = "_".join([*parts, f"rec-{source}", "desc-synth", target])
    path = folder.joinpath(*parts, "anat", f"{stem}.nii.gz")
    write_image(image, path)
    write_sidecar(path, {**provenance(predictor, text), "Sources": [_source(case, parse_task(text)[0])]})
    return path


def _source(case: Case, contrast: str) -> str:
    """Where the source lies: a BIDS URI below the data set's folder, else a plain one."""
    path = _absolute(case.images[contrast])
    if case.root is not None and path.is_relative_to(_absolute(case.root)):
        return f"bids:raw:{path.relative_to(_absolute(case.root)).as_posix()}"
    return path.as_uri()


def provenance(predictor: Predictor, text: str) -> Mapping[str, Any]:
    """What made a volume: BIDS' own keys, then ours."""
    source, target = parse_task(text)
    return {
        "Description": f"Synthetic {target} made from {source}; not for diagnosis. 0 and 1 are the percentiles "
        "to which the run's preparation maps each volume.",
        "Units": "arbitrary",
        "GeneratedBy": [GENERATED_BY],
        "Task": text,
        "Site": predictor.site,
        "Method": predictor.run.method,
        "Run": predictor.run.digest(),
    }


def _sidecar(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(suffix_of(image) or "") + ".json")


def write_sidecar(image: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON beside an image."""
    _write_json(_sidecar(image), content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, indent=1) + "\n")


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

"""``polysite predict``: one volume, one DICOM series, or every case of a BIDS folder."""

from collections.abc import Sequence
from pathlib import Path

from polysite.cases import phantom_as_bids
from polysite.config.sources import BidsData, DicomData, ElsewhereData, PhantomData
from polysite.data.case import Case
from polysite.data.given_masks import with_masks
from polysite.errors import ConfigError, DataError
from polysite.image import NIFTI, Image, suffix_of
from polysite.predictions.applied import Applied, applied
from polysite.predictions.derivative import (
    absolute,
    describe_derivative,
    is_ours,
    place_of,
    sidecar_of,
    source_uri,
    write_sidecar,
)
from polysite.predictions.dicom_input import holds_dicom, predict_series
from polysite.predictions.predictor import Predictor, on_device
from polysite.registry import lookup
from polysite.run import open_run


def predict(
    folder: Path,
    site: str,
    source: Path,
    out: Path,
    text: str | None = None,
    *,
    device: str | None = None,
    dicom: Path | None = None,
) -> list[Path]:
    """Apply a site's model to one volume, to a DICOM series or to a BIDS folder.

    Parameters
    ----------
    source : Path
        A volume, a DICOM series (its folder, or a file of several frames), or a BIDS folder of which every
        case with a fitting image is taken.
    out : Path
        A file for a volume or series; the folder of a BIDS derivative for a BIDS folder.
    text : str or None
        The job: for synthesis a task, for segmentation the image's name; default: all that the site's model
        can do (of a volume: the one that fits its name).
    dicom : Path or None
        Folder to make for the result of a DICOM series as DICOM of the same patient; default: none is written.

    Returns
    -------
    list of Path
        The volumes written.
    """
    run = on_device(open_run(folder), device)
    predictor = Predictor(folder, run, site)
    at_work = applied(folder, predictor)
    jobs = at_work.jobs if text is None else (at_work.named(text),)
    if source.exists() and holds_dicom(source):
        _require_writable(out)
        return predict_series(predictor, at_work, source, out, text, dicom)
    if dicom is not None:
        raise ConfigError(
            f"--dicom {dicom}: IN must be DICOM, for the patient and study are taken from there"
        )
    if source.is_dir():
        return _predict_folder(predictor, at_work, source, out, jobs)
    if not source.exists():
        raise DataError(f"{source}: does not exist; give a volume, a DICOM series or a BIDS folder")
    return [_predict_volume(predictor, at_work, source, out, None if text is None else jobs[0])]


def _predict_folder(
    predictor: Predictor, at_work: Applied, source: Path, out: Path, jobs: Sequence[str]
) -> list[Path]:
    """Every case of a BIDS folder; the cases are found, and the place of the results is clear, before any work."""
    run, site = predictor.run, predictor.site
    data = run.sites[site].data
    if isinstance(data, PhantomData):
        data = phantom_as_bids(data, run.cache_folder())
    endings = data.contrasts if isinstance(data, BidsData) else {}
    cases: list[Case] = lookup("readers", "bids")(
        site, BidsData(path=source, contrasts=endings), run.contrasts
    )
    cases = with_masks(cases, source, None if isinstance(data, DicomData | ElsewhereData) else data.masks)
    work = [(case, job) for case in cases for job in jobs if at_work.source(job) in case.images]
    if not work:
        raise DataError(f"{source}: no case has an image for {', '.join(jobs)}")
    description = out / "dataset_description.json"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not is_ours(description))):
        raise ConfigError(f"{out}: is there already and was not made by predict; choose another OUT")
    written: list[Path] = []
    for case, job in work:
        for prepared in predictor.prepared(case, at_work.source(job)):
            image = at_work.image(prepared, job)
            if not written:
                describe_derivative(out, at_work.title, run, source)
                at_work.describe(out)
            written.append(write_prediction(out, case, image, job, at_work))
    return written


def _predict_volume(predictor: Predictor, at_work: Applied, source: Path, out: Path, job: str | None) -> Path:
    _require_writable(out)
    job = job or at_work.fitting(source)
    contrast = at_work.source(job)
    found = Case(site=predictor.site, subject="input", session=None, images={contrast: source})
    for case in predictor.prepared(found, contrast):
        at_work.write(at_work.image(case, job), out)
        write_sidecar(out, {**at_work.about(job), "Sources": [absolute(source).as_uri()]})
    return out


def _require_writable(out: Path) -> None:
    if suffix_of(out) not in NIFTI:
        raise ConfigError(f"{out}: OUT must end in .nii.gz or .nii; change the name")
    if out.exists() and not is_ours(sidecar_of(out)):
        raise ConfigError(f"{out}: is there already and was not made by predict; choose another OUT")


def write_prediction(folder: Path, case: Case, image: Image, job: str, at_work: Applied) -> Path:
    """Write one volume with its sidecar into a BIDS derivative."""
    path = place_of(folder, case, at_work.name(case, job))
    at_work.write(image, path)
    write_sidecar(path, {**at_work.about(job), "Sources": [source_uri(case, at_work.source(job))]})
    return path

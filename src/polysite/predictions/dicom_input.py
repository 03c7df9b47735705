"""``polysite predict`` on a DICOM series: the volume as NIfTI and, on request, as DICOM of the same patient.

The series becomes a NIfTI file in a folder that goes away, so prediction is what it is for any volume, and nothing of
the patient can get into it. Who the patient is comes into play again only where DICOM is written.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from polysite.config.sources import DicomData
from polysite.data.case import Case
from polysite.data.dicom.choice import fits
from polysite.data.dicom.scan import Scan, Series, list_files, scan
from polysite.data.dicom.series import Stack
from polysite.data.dicom.volume import read_series
from polysite.errors import ConfigError, DataError
from polysite.image import Image, suffix_of, write_image
from polysite.predictions.applied import Applied
from polysite.predictions.derivative import write_sidecar
from polysite.predictions.dicom_images import write_images
from polysite.predictions.dicom_output import free_folder, new_folder
from polysite.predictions.dicom_segments import require_highdicom, write_segments
from polysite.predictions.predictor import Predictor
from polysite.predictions.segmentation import AppliedSegmentation


def holds_dicom(source: Path) -> bool:
    """Whether an input is a DICOM file, or a folder of them that is no BIDS folder."""
    if source.is_file() and suffix_of(source) is not None:
        return False
    if any(any(source.glob(f"sub-*/{place}/*.nii*")) for place in ("anat", "ses-*/anat")):
        return False
    return any(_has_prefix(listed.path) for listed in list_files(source))


def _has_prefix(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def predict_series(
    predictor: Predictor, at_work: Applied, source: Path, out: Path, text: str | None, dicom: Path | None
) -> list[Path]:
    """Apply a site's model to a DICOM series.

    Parameters
    ----------
    source : Path
        A folder of files, or one file of several frames. Of several series the one that fits the site's own
        patterns for the job's contrast is taken.
    out : Path
        The NIfTI file.
    text : str or None
        The job, if it is named.
    dicom : Path or None
        Folder to make for the result as DICOM.

    Returns
    -------
    list of Path
        The NIfTI file, then the folder of DICOM files.
    """
    if dicom is not None:
        free_folder(dicom)
        if isinstance(at_work, AppliedSegmentation):
            require_highdicom()
    data = predictor.run.sites[predictor.site].data
    patterns = data.contrasts if isinstance(data, DicomData) else {}
    try:
        found = scan(source)
        job, series = _chosen(found, at_work, patterns, text)
        contrast = at_work.source(job)
        image, stack = read_series(series, contrast)
    except DataError as error:
        raise DataError(f"the DICOM input: {error}") from None
    made = _made(predictor, at_work, image, job)
    at_work.write(made, out)
    write_sidecar(out, at_work.about(job))  # no `Sources`: the path of a DICOM file may name a patient
    if dicom is None:
        return [out]
    with new_folder(dicom) as folder:
        _write_dicom(folder, predictor, at_work, made, stack, job)
    return [out, dicom]


def _made(predictor: Predictor, at_work: Applied, image: Image, job: str) -> Image:
    contrast = at_work.source(job)
    with tempfile.TemporaryDirectory(prefix="polysite-") as folder:
        path = Path(folder) / "input.nii.gz"
        write_image(image, path)
        case = Case(site=predictor.site, subject="input", session=None, images={contrast: path})
        (made,) = (at_work.image(prepared, job) for prepared in predictor.prepared(case, contrast))
    return made


def _chosen(
    found: Scan, at_work: Applied, patterns: Mapping[str, str | Sequence[str]], text: str | None
) -> tuple[str, Series]:
    """The job and the series that it reads."""
    jobs = at_work.jobs if text is None else (at_work.named(text),)
    fitting = [
        (job, series)
        for job in jobs
        for series in found.series
        if at_work.source(job) in patterns and fits(series.first, patterns[at_work.source(job)])
    ]
    if not fitting and len(found.series) == 1:
        fitting = [(at_work.fitting(Path("the series")) if text is None else jobs[0], found.series[0])]
    if len(fitting) == 1:
        return fitting[0]
    if not found.series:
        damaged = "".join(f"; file {number} {why}" for number, why in found.damaged[:3])
        raise DataError(
            f"holds no MR series ({len(found.files)} files: {found.n_not_dicom} not DICOM, {found.n_other} DICOM of "
            f"another kind, {len(found.damaged)} damaged{damaged})"
        )
    if len({series.number for _, series in fitting}) == 1:
        raise ConfigError(
            f"several tasks fit the series; add --task with one of: {', '.join(job for job, _ in fitting)}"
        )
    what = f"{len(fitting)} of them fit" if fitting else "which one is meant is not clear"
    raise DataError(
        f"holds {len(found.series)} series and {what}; give a folder of one (`polysite dicom` lists them)"
    )


def _write_dicom(
    folder: Path, predictor: Predictor, at_work: Applied, made: Image, stack: Stack, job: str
) -> None:
    about = f"Made by Polysite, run {predictor.run.name}, method {predictor.run.method}. Not for diagnosis."
    if isinstance(at_work, AppliedSegmentation):
        write_segments(
            folder / "segmentation.dcm",
            made,
            stack,
            names=at_work.names,
            about=about,
            device=predictor.run.digest()[:16],
        )
    else:
        source = at_work.source(job)
        write_images(
            folder,
            made,
            stack,
            title=f"Synthetic {made.contrast} from {source}, not for diagnosis",
            about=f"Synthetic {made.contrast} computed from {source} by a neural network. {about}",
        )

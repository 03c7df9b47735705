"""Where a site's scans come from: one class for each format of data."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from polysite.config.base import Name, Section, at, expand
from polysite.registry import choices, lookup

Patterns = Annotated[str, Field(min_length=1, max_length=128)]
ACQUISITION = (
    "Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "MRAcquisitionType", "ScanningSequence",
    "SequenceVariant", "SequenceName", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "SliceThickness",
)  # fmt: skip
"""What a DICOM series can be chosen by: BIDS' names and units."""


class _Folder(Section):
    path: Path
    where: dict[str, str] = Field(
        default={},
        description="keep the subjects whose participants.tsv (or table) columns have these values",
    )
    contrasts: dict[Name, str] = Field(
        default={},
        description="contrast in the run -> BIDS suffix, table column or file token; default: the same",
    )
    masks: str | None = Field(
        default=None,
        description="where the masks for `prepare.mask: given` lie, below the folder of `path` or absolute: a path "
        "with {subject}, {session}, {contrast}, {folder} and {name} of the image, for example "
        "'derivatives/bet/{folder}/{name}_mask.nii.gz'",
    )

    @field_validator("masks")
    @classmethod
    def _known_words(cls, masks: str | None) -> str | None:
        words = {"subject", "session", "contrast", "folder", "name"}
        for word in re.findall(r"\{(.*?)\}", (masks or "").replace("${", "$")):
            if word not in words:
                raise ValueError(f"{{{word}}} in {masks!r} is none of {', '.join(sorted(words))}")
        return masks

    def folder(self) -> Path:
        """The path with ``${VARIABLE}`` and ``~`` replaced."""
        return expand(self.path)


class BidsData(_Folder):
    """A BIDS folder."""

    format: Literal["bids"] = "bids"
    label_images: Path | None = Field(
        default=None,
        description="segmentation: folder of the derivative that holds the label images, below `path` or "
        "absolute, for example derivatives/manual; there a label image has its image's entities, and perhaps `desc-`",
    )
    label_ending: str = Field(
        default="dseg", description="segmentation: ending of the label images, for example label-lesion_mask"
    )


class TableData(_Folder):
    """A CSV table with a row a case and a column of paths for each contrast.

    A path may also be put together from columns: `{code}/{code}_sa.nii.gz`, with * for what is not known.
    """

    format: Literal["table"] = "table"
    subject: str = Field(default="subject", description="the column that names the subject")
    session: str = Field(
        default="session", description="the column that tells rows of one subject apart; may be missing"
    )
    label_images: dict[Name, str] = Field(
        default={}, description="segmentation: contrast -> column (or path) of its label image"
    )
    frames: dict[Name, str] = Field(
        default={},
        description="contrast -> column with the number of its frame, where files are 4-D (label images too)",
    )
    first_frame: Literal[0, 1] = Field(default=0, description="the number of a file's first frame")


class FilesData(_Folder):
    """Files found by a pattern, for layouts that are not BIDS."""

    format: Literal["files"] = "files"
    pattern: str = Field(
        description="path below `path` with {subject}, {contrast}, optional {session} and free {tokens} or *, "
        "for example 'IXI-{contrast}/{subject}-Guys-{n}-{contrast}.nii.gz'; {contrast} may be left out where "
        "`contrasts` names one"
    )
    label_images: str | None = Field(
        default=None,
        description="segmentation: the same for label images, for example '{subject}/{subject}_{contrast}_gt.nii.gz'; "
        "without {contrast}, one serves all images of a case; a file that fits it is no image",
    )

    @field_validator("pattern", "label_images")
    @classmethod
    def _below(cls, pattern: str | None) -> str | None:
        if pattern and (pattern.startswith(("/", "~")) or ".." in pattern.split("/")):
            raise ValueError(f"{pattern!r} must lie below `path`: no / at its beginning and no ..")
        return pattern


class DicomData(Section):
    """A folder of DICOM files: chosen series are converted once into the cache, under pseudonyms, then read as BIDS."""

    format: Literal["dicom"] = "dicom"
    path: Path
    contrasts: dict[Name, Patterns | Annotated[tuple[Patterns, ...], Field(min_length=1)]] = Field(
        min_length=1,
        description="contrast -> pattern of its SeriesDescription or ProtocolName (upper or lower case, `*` any "
        "letters, `?` one), or several of which one must fit; none may fit that begins with `!`",
    )
    where: dict[str, str] = Field(
        default={},
        description="keep the series whose acquisition has these values, which may be patterns: "
        "Manufacturer, ManufacturersModelName, MagneticFieldStrength, ... as in the sidecars",
    )
    derived: bool = Field(
        default=False, description="take also series that were made from others (projections, reformats)"
    )
    trouble: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="a series that should be taken but is no whole volume: `refuse` to go on, or `leave_out` and tell",
    )
    secret: Path | None = Field(
        default=None,
        description="file of the site's secret, which pseudonyms are made with; made if it is not there; default: "
        "dicom/secret in the cache",
    )
    key: Path | None = Field(
        default=None,
        description="CSV table with the columns patient_id and label, instead of hashes; persons who are not in it "
        "are left out",
    )

    def folder(self) -> Path:
        """The path with ``${VARIABLE}`` and ``~`` replaced."""
        return expand(self.path)

    @field_validator("contrasts")
    @classmethod
    def _some_wanted(cls, contrasts: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
        for name, given in contrasts.items():
            patterns = (given,) if isinstance(given, str) else given
            if all(pattern.startswith("!") for pattern in patterns):
                raise ValueError(f"{name}: {given!r} only says what must not fit; add a pattern that must")
        endings = [re.sub(r"[^A-Za-z0-9]", "", name) for name in contrasts]
        if len(set(endings)) < len(endings):
            raise ValueError(f"two of {', '.join(contrasts)} differ by - or _ alone, which file names cannot")
        return contrasts

    @field_validator("where")
    @classmethod
    def _told(cls, where: dict[str, str]) -> dict[str, str]:
        for name in where:
            if name not in ACQUISITION:
                raise ValueError(
                    f"{name!r} is not known of a series; choose one of: {', '.join(ACQUISITION)}"
                )
        return where


class PhantomData(Section):
    """A procedural hospital: generated once into the cache, then read as BIDS."""

    format: Literal["phantom"] = "phantom"
    kind: Literal["brain", "cardiac"] = Field(
        default="brain",
        description="`brain`: heads with the contrasts T1w, T2w, ...; `cardiac`: hearts in short-axis stacks with "
        "label images, whose images are called ED, ES (cine at end-diastole and end-systole) and LGE",
    )
    hospital: Name = Field(description="one of the consortium's hospitals: `polysite phantom --list`")
    n_subjects: int = Field(default=6, ge=1, le=10_000)
    contrasts: tuple[Name, ...] | None = Field(
        default=None, description="brain: which are made; default: what the hospital acquires"
    )
    voxel_mm: float | None = Field(
        default=None,
        ge=0.5,
        le=20,
        description="in-plane voxel size (of hearts at most 10); default: the hospital's own",
    )
    seed: int = Field(default=7, ge=0)

    @model_validator(mode="after")
    def _of_its_kind(self) -> "PhantomData":
        if self.kind == "cardiac" and self.contrasts is not None:
            raise ValueError(
                "contrasts: a cardiac centre makes all its images; leave this out and choose by the run's `contrasts`"
            )
        if self.kind == "cardiac" and self.voxel_mm is not None and self.voxel_mm > 10:
            raise ValueError(f"voxel_mm: {self.voxel_mm:g} is too coarse for a heart; at most 10")
        return self


class DatasetData(_Folder):
    """A public data set by its name: `polysite datasets` lists them and what they look like on disk.

    Label images are found where the data set has them.
    """

    format: str = Field(description="the data set's name: `polysite datasets` lists them")
    where: dict[str, str] = Field(
        default={},
        description="keep the visits with these values: of `site`, which tells the data set's sites apart, or of "
        "another fact that `polysite datasets NAME ROOT` shows",
    )
    contrasts: dict[Name, str] = Field(
        default={}, description="contrast in the run -> the data set's name for it; default: the same"
    )
    require: tuple[Name, ...] = Field(
        default=(), description="keep the visits that have all of these contrasts; default: at least one"
    )

    @model_validator(mode="after")
    def _offered(self) -> "DatasetData":
        offered = lookup("datasets", self.format).contrasts
        for contrast, word in self.contrasts.items():
            if word not in offered:
                raise at(
                    ["contrasts", contrast],
                    f"{word!r} is not offered by {self.format}; choose one of: {', '.join(offered)}",
                )
        return self


class ElsewhereData(Section):
    """Scans that only the hospital's own machine can read; it joins the run with a SITE.yaml of its own."""

    format: Literal["elsewhere"] = "elsewhere"


FORMATS = ("bids", "table", "files", "dicom", "phantom", "elsewhere")
"""The formats that are no data set's name."""


def _kind(data: Any) -> str | None:
    """Which class a data section is for; None if its format is unknown."""
    name = data.get("format") if isinstance(data, Mapping) else getattr(data, "format", None)
    if name in FORMATS:
        return str(name)
    return "dataset" if isinstance(name, str) and name in choices("datasets") else None


_Own = (
    Annotated[BidsData, Tag("bids")]
    | Annotated[TableData, Tag("table")]
    | Annotated[FilesData, Tag("files")]
    | Annotated[DicomData, Tag("dicom")]
    | Annotated[PhantomData, Tag("phantom")]
    | Annotated[DatasetData, Tag("dataset")]
)
OwnData = Annotated[_Own, Discriminator(_kind)]
"""Scans on this machine."""
SiteData = Annotated[_Own | Annotated[ElsewhereData, Tag("elsewhere")], Discriminator(_kind)]

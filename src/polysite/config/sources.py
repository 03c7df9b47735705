"""Where a site's scans come from: one class for each format of data."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from polysite.config.base import Name, Section, expand


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


class ElsewhereData(Section):
    """Scans that only the hospital's own machine can read; it joins the run with a SITE.yaml of its own."""

    format: Literal["elsewhere"] = "elsewhere"


OwnData = Annotated[BidsData | TableData | FilesData | PhantomData, Field(discriminator="format")]
"""Scans on this machine."""
SiteData = Annotated[
    BidsData | TableData | FilesData | PhantomData | ElsewhereData, Field(discriminator="format")
]

"""How scans become normalised volumes on one grid."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from polysite.config.base import Name, Section

Goal = Literal["synthesis", "segmentation"]
Axes = Literal["canonical", "slices"]
Normalisation = Literal["range", "zscore", "white-stripe"]
Peak = Literal["first", "largest", "last"]
Bias = Literal["none", "n4"]
Transform = Literal["rigid", "affine"]
Mask = Literal["foreground", "brain", "nonzero", "given", "command", "none"]
Spacing = Annotated[float, Field(ge=0.1, le=50)]
Spacings = tuple[Spacing | None, Spacing | None, Spacing | None]
Percentile = Annotated[float, Field(ge=0, le=100)]


class Prepare(Section):
    """From scans to normalised volumes on one grid."""

    reference: Name | None = Field(
        default=None,
        description="contrast whose grid the others are brought to; default: the first that a case has",
    )
    registration: Literal["auto", "always", "never"] = Field(
        default="auto", description="registration to the reference; auto: where the grids differ"
    )
    transform: Transform = Field(
        default="rigid",
        description="`rigid`: turned and shifted, as one head is in one session; `affine`: stretched and sheared too, "
        "for scanners whose gradients differ",
    )
    axes: Axes | None = Field(
        default=None,
        description="`canonical`: x, y, z are the axes nearest to right, anterior, superior; `slices`: z is across "
        "the slices, also of an oblique stack; default: `canonical` for synthesis, `slices` for segmentation",
    )
    spacing_mm: Spacings | None = Field(
        default=None,
        description="resample the reference grid to this voxel size (x, y, z); `null` in the list keeps an axis; "
        "default: all kept for synthesis, `[1.25, 1.25, null]` for segmentation",
    )
    bias: Bias = Field(
        default="none",
        description="`n4`: the coil's shading is estimated inside the mask and divided out, before all that follows",
    )
    percentiles: tuple[Percentile, Percentile] = Field(
        default=(0.0, 99.5), description="of the voxels inside the mask; beyond is clipped"
    )
    normalisation: Normalisation | None = Field(
        default=None,
        description="`range`: the percentiles become -1 and 1; `zscore`: mean 0 and standard deviation 1 of the "
        "voxels inside the mask, after clipping; `white-stripe`: white matter's peak of the histogram becomes 0, the "
        "deviation about it 1, for brains without their skull; synthesis needs `range`; default: `range` for "
        "synthesis, `zscore` for segmentation",
    )
    white_stripe: dict[Name, Peak] = Field(
        default={},
        description="white-stripe: contrast -> which of its histogram's peaks is white matter's; default: `last` where "
        "the name has T1 in it, `first` with PD, else `largest`",
    )
    mask: Mask | None = Field(
        default=None,
        description="`foreground`: the head, or the brain where the skull was removed; `brain`: the brain, found "
        "roughly; `nonzero`: voxels other than 0; `given`: the files of the site's `data.masks`; `command`: what "
        "`mask_command` finds; `none`: the whole volume; default: `foreground` for synthesis, `none` for segmentation",
    )
    mask_command: tuple[str, ...] = Field(
        default=(),
        description="mask: command: a program and its arguments, of which {input} and {output} are files, for example "
        "[mri_synthstrip, -i, '{input}', -m, '{output}']; run once a volume, without a shell",
    )
    mask_timeout_s: float = Field(
        default=1800, gt=0, le=86_400, description="mask: command: longest time for a volume"
    )

    @field_validator("percentiles")
    @classmethod
    def _rising(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        low, high = percentiles
        if low >= high:
            raise ValueError(f"the lower one comes first, not [{low:g}, {high:g}]")
        return percentiles

    @model_validator(mode="after")
    def _whole_command(self) -> "Prepare":
        if (self.mask == "command") != bool(self.mask_command):
            raise ValueError("`mask: command` and `mask_command` go together; give both or neither")
        text = " ".join(self.mask_command)
        if self.mask_command and not ("{input}" in text and "{output}" in text):
            raise ValueError(f"mask_command {text!r} must name both {{input}} and {{output}}")
        return self

    def decided(self, goal: Goal) -> "Preparation":
        """The same settings with every default that depends on the goal filled in."""
        usual = {
            "synthesis": Preparation(),
            "segmentation": Preparation(
                axes="slices", spacing_mm=(1.25, 1.25, None), normalisation="zscore", mask="none"
            ),
        }[goal]
        own = {name: value for name, value in self if value is not None}
        return usual.model_copy(update=own)


class Preparation(Prepare):
    """Settings of the preparation with nothing left open."""

    axes: Axes = "canonical"
    spacing_mm: Spacings = (None, None, None)
    normalisation: Normalisation = "range"
    mask: Mask = "foreground"

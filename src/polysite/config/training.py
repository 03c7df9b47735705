"""Rounds, steps and the optimiser."""

from typing import Annotated, Literal

from pydantic import Field

from polysite.config.base import Section

Beta = Annotated[float, Field(ge=0, lt=1)]


class Training(Section):
    """Rounds, steps and the optimiser, the same for every algorithm."""

    rounds: int = Field(default=150, ge=1, le=999_999)
    steps_per_round: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="batches a site trains a round; default: one epoch, every slice (or labelled volume) once",
    )
    epochs_per_round: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="passes over a site's data a round, where steps_per_round is not given",
    )
    batch_size: int = Field(default=1, ge=1, le=4096)
    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    flat_rounds: int | None = Field(
        default=None, ge=0, description="rounds before the linear decay begins; default: half of them"
    )
    schedule_end: Literal["positive", "zero"] = Field(
        default="positive", description="zero: the last round trains nothing, as in the authors' release"
    )
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    validate_every: int = Field(default=1, ge=0, description="rounds between validations; 0: never")
    validation_slices: int = Field(
        default=16,
        ge=1,
        le=65_536,
        description="slices a site validates on; in segmentation volumes, each at most once",
    )
    common_start: bool = Field(default=True, description="false: every site starts from its own random model")

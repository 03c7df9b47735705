"""SITE.yaml: what a hospital says about itself, and what it allows."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polysite.config.base import DeviceName, Name, Section
from polysite.config.exchange import ValueType
from polysite.config.sources import OwnData


def _run(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}|[A-Za-z0-9][A-Za-z0-9_-]{0,62}", text):
        raise ValueError(f"{text!r} is neither a run's name nor the 64 digits of its digest")
    return text


class ExchangePolicy(Section):
    """In which form a run may have this hospital send its change."""

    clip_at_most: float | None = Field(
        default=None,
        gt=0,
        description="a run has to clip, at this norm or a smaller one; default: it need not",
    )
    values: Annotated[tuple[ValueType, ...], Field(min_length=1)] | None = Field(
        default=None, description="types of values that may be sent; default: any"
    )


class Policy(Section):
    """What may happen with this hospital's scans; whatever is not allowed here is refused."""

    runs: Annotated[tuple[Annotated[str, AfterValidator(_run)], ...], Field(min_length=1)] = Field(
        description="names of runs that may be joined, or their digests, which allow nothing but exactly that run"
    )
    leaves: tuple[str, ...] = Field(
        description="patterns of the tensors that may leave, for example [generator.*]; `polysite plan` lists a run's"
    )
    min_subjects: int = Field(
        default=10, ge=1, description="training subjects below which this hospital takes no part"
    )
    max_rounds: int = Field(default=1000, ge=1, description="of a run")
    max_bytes_per_round: int = Field(default=1_000_000_000, ge=1, description="that leave, in one round")
    programs: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description="programs that a run may start here (its `prepare.mask_command`), each word for word; "
        "default: none",
    )
    exchange: ExchangePolicy = ExchangePolicy()


class Hospital(Section):
    """A hospital that takes part in runs across hospitals."""

    site: Name = Field(description="its name in the run's YAML and in its start-up kit")
    data: OwnData = Field(description="where its scans are")
    subjects: dict[Literal["train", "validation", "test"], tuple[str, ...]] | None = Field(
        default=None, description="its split, subject by subject; default: drawn by the run's fractions"
    )
    cache: Path | None = Field(
        default=None, description="folder of prepared cases, which are images; default: `cache` in the store"
    )
    store: Path = Field(
        description="folder of its private state, a folder for each run in it, and of its audit log; stays here"
    )
    device: DeviceName = Field(default="cpu", description="cpu, cuda, cuda:1 … or mps")
    threads: int | None = Field(default=None, ge=1, description="threads of its work; default: all cores")
    kit: Path | None = Field(
        default=None, description="its start-up kit, made by `polysite provision`; for `polysite join`"
    )
    policy: Policy = Field(description="what it allows")

    @property
    def cases(self) -> Path:
        """Where its prepared cases are."""
        return self.cache or self.store / "cache"

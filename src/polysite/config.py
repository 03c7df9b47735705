"""One YAML file describes a run; this is its model. ``polysite.recipe`` reads it.

Sections that name a registered class (``task``, ``network``, ``algorithm``, ``engine``) are checked against
that class's own ``Settings``, so a new method brings its settings along in its own file.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from polysite.errors import ConfigError
from polysite.registry import lookup

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]

RESERVED_SITE = "pooled"
"""The name under which all data in one place takes part."""


def expand(path: Path) -> Path:
    """Replace ``${NAME}`` and ``~`` in a path.

    Raises
    ------
    ConfigError
        If a variable is not set.
    """
    text = str(path)
    for variable in re.findall(r"\$\{(\w+)\}", text):
        if not os.environ.get(variable):
            raise ConfigError(
                f"the path {text!r} needs the environment variable {variable}; set it to a folder"
            )
    try:
        return Path(os.path.expandvars(text)).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"the path {text!r} names a home that there is not: {error}") from error


def anchored(path: Path) -> Path:
    """A relative path from the current directory; one that begins with ``${NAME}`` or ``~`` stays as it is."""
    return path if str(path).startswith(("$", "~")) else Path(os.path.abspath(path))  # noqa: PTH100


def _at(location: Sequence[str], message: str) -> PydanticCustomError:
    """An error of a check across sections that still knows its key."""
    return PydanticCustomError("at", "{message}", {"message": message, "location": tuple(location)})


class Section(BaseModel):
    """A part of the YAML: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(BaseModel):
    """A part of the YAML that names a registered class and holds that class's settings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


# --- where a site's scans come from -------------------------------------------------------------------


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


class TableData(_Folder):
    """A CSV table with a row a subject (columns ``subject``, optional ``session``, one column a contrast)."""

    format: Literal["table"] = "table"


class FilesData(_Folder):
    """Files found by a pattern, for layouts that are not BIDS."""

    format: Literal["files"] = "files"
    pattern: str = Field(
        description="path below `path` with {subject}, {contrast}, optional {session} and free {tokens} or *, "
        "for example 'IXI-{contrast}/{subject}-Guys-{n}-{contrast}.nii.gz'"
    )

    @field_validator("pattern")
    @classmethod
    def _below(cls, pattern: str) -> str:
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ValueError(f"{pattern!r} must lie below `path`: no / at its beginning and no ..")
        return pattern


class PhantomData(Section):
    """A procedural hospital: generated once into the cache, then read as BIDS."""

    format: Literal["phantom"] = "phantom"
    kind: Literal["brain"] = "brain"
    hospital: Name = Field(description="one of the consortium's hospitals: `polysite phantom --list`")
    n_subjects: int = Field(default=6, ge=1, le=10_000)
    contrasts: tuple[Name, ...] | None = Field(
        default=None, description="default: what the hospital acquires"
    )
    voxel_mm: float | None = Field(
        default=None, ge=0.5, le=20, description="in-plane voxel size; default: the hospital's own"
    )
    seed: int = Field(default=7, ge=0)


SiteData = Annotated[BidsData | TableData | FilesData | PhantomData, Field(discriminator="format")]


Spacing = Annotated[float, Field(ge=0.1, le=50)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Prepare(Section):
    """From scans to normalised volumes on one grid."""

    reference: Name | None = Field(
        default=None,
        description="contrast whose grid the others are brought to; default: the first that a case has",
    )
    registration: Literal["auto", "always", "never"] = Field(
        default="auto", description="rigid registration to the reference; auto: where the grids differ"
    )
    spacing_mm: tuple[Spacing, Spacing, Spacing] | None = Field(
        default=None,
        description="resample the reference grid to this voxel size (canonical axes); default: keep it",
    )
    percentiles: tuple[Percentile, Percentile] = Field(
        default=(0.0, 99.5),
        description="of the voxels inside the mask, mapped to -1 and 1; beyond is clipped",
    )
    mask: Literal["foreground", "nonzero", "none"] = "foreground"

    @field_validator("percentiles")
    @classmethod
    def _rising(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        low, high = percentiles
        if low >= high:
            raise ValueError(f"the lower one comes first, not [{low:g}, {high:g}]")
        return percentiles


class Split(Section):
    """Subjects for validation and test: fractions, or the subjects themselves."""

    validation: float = Field(default=0.0, ge=0, lt=1)
    test: float = Field(default=0.25, ge=0, lt=1)
    subjects: dict[Name, dict[Literal["train", "validation", "test"], tuple[str, ...]]] = Field(
        default={}, description="site -> split -> subjects; a site named here is split exactly so"
    )

    @model_validator(mode="after")
    def _some_left(self) -> "Split":
        if self.validation + self.test > 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} leave nobody for training; "
                "their sum must be at most 1"
            )
        return self


_TASK = re.compile(r"^\s*([A-Za-z0-9_-]+?)\s*(?:->|→)\s*([A-Za-z0-9_-]+?)\s*$")


def parse_task(text: str) -> tuple[str, str]:
    """Source and target of a synthesis task.

    >>> parse_task("T1w -> T2w")
    ('T1w', 'T2w')
    """
    match = _TASK.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a task; write 'SOURCE->TARGET', for example 'T1w->T2w'")
    source, target = match.groups()
    if source == target:
        raise ValueError(f"task {text!r} has the same source and target")
    return source, target


def _task_text(text: str) -> str:
    return "->".join(parse_task(text))


LabelValue = Annotated[int, Field(ge=1, le=65_535)]


class Site(Section):
    """One hospital: its scans and what it wants to learn, by ``tasks`` or by ``labels``."""

    data: SiteData
    tasks: tuple[Annotated[str, AfterValidator(_task_text)], ...] = Field(
        default=(), description="synthesis: what is made from what, 'T1w->T2w'"
    )
    labels: dict[Name, LabelValue | tuple[LabelValue, ...]] = Field(
        default={},
        description="segmentation: class -> its value in this site's label images (or several that are one "
        "class here); a class that is not named is not labelled at this site",
    )
    part_of: dict[Name, Name] = Field(
        default={},
        description="segmentation: class that is not labelled here -> class whose label its voxels have; "
        "default: the background",
    )
    prepare: Prepare | None = Field(default=None, description="replaces the run's `prepare` at this site")

    @model_validator(mode="after")
    def _one_goal(self) -> "Site":
        if bool(self.tasks) == bool(self.labels):
            raise ValueError(
                "needs either `tasks` (synthesis) or `labels` (segmentation)"
                + (", not both" if self.tasks else "")
            )
        return self

    @field_validator("labels")
    @classmethod
    def _one_meaning(cls, labels: dict[str, int | tuple[int, ...]]) -> dict[str, int | tuple[int, ...]]:
        values = [value for given in labels.values() for value in values_of(given)]
        if len(set(values)) < len(values):
            raise ValueError(f"a value stands for two classes: {labels}")
        if "background" in labels:
            raise ValueError("'background' is every value that no class has; leave it out")
        return labels

    @field_validator("tasks")
    @classmethod
    def _once(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task is listed twice: {', '.join(tasks)}")
        return tasks


def values_of(given: int | tuple[int, ...]) -> tuple[int, ...]:
    """The values of one class in a site's label images; the first is what a prediction is written with."""
    return (given,) if isinstance(given, int) else given


class Training(Section):
    """Rounds, steps and the optimiser, the same for every algorithm."""

    rounds: int = Field(default=150, ge=1, le=999_999)
    steps_per_round: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="batches a site trains a round; default: one epoch, every slice (or labelled volume) once",
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


class Evaluate(Section):
    """How predictions are scored."""

    mask: Literal["foreground", "none"] = "foreground"
    split: Literal["test", "validation", "train"] = "test"


GOALS = {"synthesis": "tasks", "segmentation": "labels"}
"""Task -> the key by which a site says what it wants to learn."""


class Run(Section):
    """A whole run."""

    name: Name
    label: str | None = Field(
        default=None, description="the method's name in reports; default: the algorithm's"
    )
    seed: int = Field(default=7, ge=0, lt=2**63)
    device: str = Field(
        default="cpu", pattern=r"^(cpu|mps|cuda(:[0-9]{1,3})?)$", description="cpu, cuda, cuda:1 … or mps"
    )
    cache: Path = Field(
        default=Path(".polysite-cache"), description="folder of prepared cases and phantoms, shared by runs"
    )
    contrasts: tuple[Name, ...] = Field(min_length=1, description="in the order of the networks' codes")
    sites: dict[Name, Site] = Field(min_length=1)
    task: Component = Component(name="synthesis")
    network: Component = Component(name="pflsynth")
    algorithm: Component = Component(name="pflsynth")
    training: Training = Training()
    prepare: Prepare = Prepare()
    split: Split = Split()
    evaluate: Evaluate = Evaluate()
    engine: Component = Component(name="here")

    @model_validator(mode="after")
    def _consistent(self) -> "Run":
        known = ", ".join(self.contrasts)
        if len(set(self.contrasts)) < len(self.contrasts):
            raise _at(["contrasts"], f"lists one twice: {known}")
        sections: list[tuple[tuple[str, ...], Prepare | None]] = [(("prepare",), self.prepare)]
        sections += [(("sites", name, "prepare"), site.prepare) for name, site in self.sites.items()]
        for section, prepare in sections:
            if prepare and prepare.reference is not None and prepare.reference not in self.contrasts:
                raise _at(
                    [*section, "reference"], f"{prepare.reference!r} is not among `contrasts` ({known})"
                )
        goal = GOALS.get(self.task.name)
        for name, site in self.sites.items():
            if goal and not getattr(site, goal):
                raise _at(
                    ["sites", name],
                    f"needs `{goal}`, because the run's task is {self.task.name}",
                )
            if name == RESERVED_SITE:
                raise _at(
                    ["sites", name], f"a site cannot be called {name!r}: it names all data in one place"
                )
            for text in site.tasks:
                for contrast in parse_task(text):
                    if contrast not in self.contrasts:
                        raise _at(
                            ["sites", name, "tasks"],
                            f"{contrast!r} in {text!r} is not among `contrasts` ({known})",
                        )
            for contrast in site.data.contrasts or ():
                if contrast not in self.contrasts and not isinstance(site.data, PhantomData):
                    raise _at(
                        ["sites", name, "data", "contrasts", contrast],
                        f"{contrast!r} is not among `contrasts` ({known})",
                    )
        for name in self.split.subjects:
            if name not in self.sites:
                raise _at(
                    ["split", "subjects", name],
                    f"{name!r} is not a site; choose one of: {', '.join(self.sites)}",
                )
        return self

    @property
    def method(self) -> str:
        """The method's name in tables and reports."""
        preset = self.algorithm.settings.get("preset")
        return self.label or (f"{self.algorithm.name}-{preset}" if preset else self.algorithm.name)

    def cache_folder(self) -> Path:
        """The cache with ``${VARIABLE}`` and ``~`` replaced."""
        try:
            return expand(self.cache)
        except ConfigError as error:
            raise ConfigError(f"cache: {error}") from error

    def anchored(self) -> "Run":
        """The same run for a folder that is continued from anywhere: relative paths from the current directory."""
        sites = {
            name: site
            if isinstance(site.data, PhantomData)
            else site.model_copy(
                update={"data": site.data.model_copy(update={"path": anchored(site.data.path)})}
            )
            for name, site in self.sites.items()
        }
        return self.model_copy(update={"sites": sites, "cache": anchored(self.cache)})

    def digest(self) -> str:
        """SHA-256 of everything that decides the trained models (not label, cache, device or engine)."""
        content = self.model_dump(mode="json", exclude={"label", "cache", "device", "engine", "evaluate"})
        content["order"] = list(self.sites)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def settings_of(kind: str, component: Component) -> Any:
    """A component's settings, checked against the ``Settings`` of the class that it names."""
    return lookup(kind, component.name).Settings(**component.settings)

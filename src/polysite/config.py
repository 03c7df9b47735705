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


SiteData = Annotated[BidsData | TableData | FilesData | PhantomData, Field(discriminator="format")]


Goal = Literal["synthesis", "segmentation"]
Axes = Literal["canonical", "slices"]
Normalisation = Literal["range", "zscore"]
Mask = Literal["foreground", "nonzero", "none"]
Spacing = Annotated[float, Field(ge=0.1, le=50)]
Spacings = tuple[Spacing | None, Spacing | None, Spacing | None]
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
    percentiles: tuple[Percentile, Percentile] = Field(
        default=(0.0, 99.5), description="of the voxels inside the mask; beyond is clipped"
    )
    normalisation: Normalisation | None = Field(
        default=None,
        description="`range`: the percentiles become -1 and 1; `zscore`: mean 0 and standard deviation 1 of the "
        "voxels inside the mask, after clipping; default: `range` for synthesis, `zscore` for segmentation",
    )
    mask: Mask | None = Field(
        default=None,
        description="`foreground`: the head; `nonzero`: voxels other than 0; `none`: the whole volume; default: "
        "`foreground` for synthesis, `none` for segmentation",
    )

    @field_validator("percentiles")
    @classmethod
    def _rising(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        low, high = percentiles
        if low >= high:
            raise ValueError(f"the lower one comes first, not [{low:g}, {high:g}]")
        return percentiles

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


LabelValue = Annotated[int, Field(ge=1, le=65_535, strict=True)]
LabelValues = Annotated[tuple[LabelValue, ...], Field(min_length=1)]


class Site(Section):
    """One hospital: its scans and what it wants to learn, by ``tasks`` or by ``labels``."""

    data: SiteData
    tasks: tuple[Annotated[str, AfterValidator(_task_text)], ...] = Field(
        default=(), description="synthesis: what is made from what, 'T1w->T2w'"
    )
    labels: dict[Name, LabelValue | LabelValues] = Field(
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

    @model_validator(mode="after")
    def _wholes(self) -> "Site":
        for part in self.part_of:
            if part in self.labels:
                raise _at(["part_of", part], f"{part!r} has labels of its own here; drop one of both")
            seen, whole = [part], self.part_of[part]
            while whole in self.part_of and whole not in seen:
                seen.append(whole)
                whole = self.part_of[whole]
            if whole in seen:
                raise _at(["part_of", part], f"goes round in a circle: {' in '.join([*seen, whole])}")
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
            for key in ("contrasts", "label_images", "frames"):
                given = getattr(site.data, key, None)
                for contrast in given if isinstance(given, dict) else ():
                    if contrast not in self.contrasts:
                        raise _at(
                            ["sites", name, "data", key, contrast],
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

"""One YAML file describes a run; this is its model.

An unknown key, a wrong type or a wrong name is an error that names the file and the line. Sections
that name a registered class (``task``, ``network``, ``algorithm``, ``engine``) are checked against that
class's own ``Settings``, so a new method brings its settings along in its own file.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from polysite.errors import ConfigError
from polysite.registry import lookup

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def _expand(path: Path) -> Path:
    """Replace ``${NAME}`` and ``~`` in a path; a variable that is not set is an error."""
    text = str(path)
    for variable in re.findall(r"\$\{(\w+)\}", text):
        if variable not in os.environ:
            raise ValueError(
                f"the path {text!r} needs the environment variable {variable}; set it to a folder"
            )
    return Path(os.path.expandvars(text)).expanduser()


class Section(BaseModel):
    """A part of the YAML: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        try:
            return _expand(self.path)
        except ValueError as error:
            raise ConfigError(str(error)) from error


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
        default=None, gt=0, le=20, description="in-plane voxel size; default: the hospital's own"
    )
    seed: int = Field(default=7, ge=0)


SiteData = Annotated[BidsData | TableData | FilesData | PhantomData, Field(discriminator="format")]


class Prepare(Section):
    """From scans to normalised volumes on one grid."""

    reference: Name | None = Field(
        default=None,
        description="contrast whose grid the others are brought to; default: the first that a case has",
    )
    registration: Literal["auto", "always", "never"] = Field(
        default="auto", description="rigid registration to the reference; auto: where the grids differ"
    )
    spacing_mm: tuple[float, float, float] | None = Field(
        default=None,
        description="resample the reference grid to this voxel size (canonical axes); default: keep it",
    )
    percentiles: tuple[float, float] = Field(
        default=(0.0, 99.5),
        description="of the voxels inside the mask, mapped to -1 and 1; beyond is clipped",
    )
    mask: Literal["foreground", "nonzero", "none"] = "foreground"


class Split(Section):
    """Subjects for validation and test: fractions, or the subjects themselves."""

    validation: float = Field(default=0.0, ge=0, lt=1)
    test: float = Field(default=0.25, ge=0, lt=1)
    subjects: dict[Name, dict[Literal["train", "validation", "test"], tuple[str, ...]]] = Field(
        default={}, description="site -> split -> subjects; a site named here is split exactly so"
    )


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


class Site(Section):
    """One hospital: its scans and what it wants to learn."""

    data: SiteData
    tasks: tuple[Annotated[str, AfterValidator(_task_text)], ...] = Field(min_length=1)
    prepare: Prepare | None = Field(default=None, description="replaces the run's `prepare` at this site")

    @field_validator("tasks")
    @classmethod
    def _once(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task is listed twice: {', '.join(tasks)}")
        return tasks


class Training(Section):
    """Rounds, steps and the optimiser, the same for every algorithm."""

    rounds: int = Field(default=150, ge=1)
    steps_per_round: int | None = Field(
        default=None, ge=1, description="batches a site trains a round; default: one epoch, every slice once"
    )
    batch_size: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
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
    validation_slices: int = Field(default=16, ge=1, description="slices a site validates on")
    common_start: bool = Field(default=True, description="false: every site starts from its own random model")


class Evaluate(Section):
    """How predictions are scored."""

    mask: Literal["foreground", "none"] = "foreground"
    split: Literal["test", "validation", "train"] = "test"


class Run(Section):
    """A whole run."""

    name: Name
    label: str | None = Field(
        default=None, description="the method's name in reports; default: the algorithm's"
    )
    seed: int = Field(default=7, ge=0, lt=2**63)
    device: str = "cpu"
    cache: Path = Path(".polysite-cache")
    contrasts: tuple[Name, ...] = Field(min_length=2, description="in the order of the networks' codes")
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
        if len(set(self.contrasts)) < len(self.contrasts):
            raise ValueError(f"`contrasts` lists one twice: {', '.join(self.contrasts)}")
        for site_name, site in self.sites.items():
            for text in site.tasks:
                for contrast in parse_task(text):
                    if contrast not in self.contrasts:
                        raise ValueError(
                            f"sites.{site_name}.tasks: {contrast!r} in {text!r} is not among "
                            f"`contrasts` ({', '.join(self.contrasts)})"
                        )
        for site_name in self.split.subjects:
            if site_name not in self.sites:
                raise ValueError(f"split.subjects names {site_name!r}, which is not a site")
        return self

    @property
    def method(self) -> str:
        """The method's name in tables and reports."""
        preset = self.algorithm.settings.get("preset")
        return self.label or (f"{self.algorithm.name}-{preset}" if preset else self.algorithm.name)

    def digest(self) -> str:
        """SHA-256 of everything that decides the trained models (not label, cache, device or engine)."""
        content = self.model_dump(mode="json", exclude={"label", "cache", "device", "engine", "evaluate"})
        content["order"] = list(self.sites)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- reading ------------------------------------------------------------------------------------------


def settings_of(kind: str, component: Component) -> Any:
    """A component's settings, checked against the ``Settings`` of the class that it names."""
    return lookup(kind, component.name).Settings(**component.settings)


def _line(node: yaml.Node | None, location: Sequence[int | str]) -> int | None:
    """The line (from 1) of the deepest key of a location that the document has."""
    line = None
    for key in location:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
            # a discriminator's tag is part of the location but no key of the document: look further
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line


def explain(error: ValidationError, where: str, root: yaml.Node | None, prefix: tuple[str, ...] = ()) -> str:
    """A validation error as lines ``file:line: key: what is wrong``."""
    lines = []
    for item in error.errors():
        location = (*prefix, *item["loc"])
        line = _line(root, location)
        path = ".".join(str(part) for part in location) or "the document"
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = f"unknown key {str(location[-1])!r}; remove it or check its spelling"
        elif item["type"] == "missing":
            what = "this key is required"
        elif not item["type"].startswith("value_error"):
            what = f"{what}, not {item['input']!r}"
        lines.append(f"{where}{f':{line}' if line else ''}: {path}: {what}")
    return "\n".join(lines)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries merged, the second winning.

    A component that names another class does not inherit the first one's settings.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_class = "name" in value and "name" in old and value["name"] != old["name"]
            merged[key] = dict(value) if other_class else merge(old, value)
        else:
            merged[key] = value
    return merged


def _override(raw: dict[str, Any], text: str) -> dict[str, Any]:
    """Apply one ``--set a.b=value``; the value is YAML."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {text!r}: write KEY.KEY=VALUE, for example training.rounds=3")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: {value!r} is not a YAML value") from error
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return merge(raw, nested)


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """A YAML mapping and its syntax tree (for line numbers)."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not {type(raw).__name__}")
    return raw, node


def build(raw: Mapping[str, Any], where: str = "run", root: yaml.Node | None = None) -> Run:
    """A checked run from a raw mapping: preset below, the mapping's own values above, settings in full.

    Raises
    ------
    ConfigError
        With a line ``file:line: key: what is wrong`` for each trouble.
    """
    algorithm = raw.get("algorithm", {"name": Run.model_fields["algorithm"].default.name})
    full = {**raw, "algorithm": algorithm}
    if isinstance(algorithm, Mapping) and isinstance(algorithm.get("name"), str):
        presets = lookup("algorithms", algorithm["name"]).PRESETS
        preset = algorithm.get("preset")
        if preset is not None and preset not in presets:
            known = ", ".join(presets) or "none"
            line = _line(root, ("algorithm", "preset"))
            raise ConfigError(
                f"{where}{f':{line}' if line else ''}: algorithm.preset: {preset!r} is not a preset of "
                f"{algorithm['name']!r}; choose one of: {known}"
            )
        if presets:
            preset = preset or next(iter(presets))
            full = merge(merge(presets[preset], full), {"algorithm": {"preset": preset}})
    try:
        run = Run(**full)
    except ValidationError as error:
        raise ConfigError(explain(error, where, root)) from error
    updates = {}
    for kind, key in (
        ("tasks", "task"),
        ("networks", "network"),
        ("algorithms", "algorithm"),
        ("engines", "engine"),
    ):
        component: Component = getattr(run, key)
        try:
            settings = settings_of(kind, component)
        except ValidationError as error:
            raise ConfigError(explain(error, where, root, (key,))) from error
        except ConfigError as error:
            line = _line(root, (key, "name"))
            raise ConfigError(f"{where}{f':{line}' if line else ''}: {key}.name: {error}") from error
        updates[key] = Component(name=component.name, **settings.model_dump(mode="json"))
    return run.model_copy(update=updates)


def load(path: Path, overrides: Sequence[str] = ()) -> Run:
    """Read and check a run's YAML.

    Parameters
    ----------
    path : Path
        The YAML file.
    overrides : sequence of str
        ``KEY.KEY=VALUE`` settings that replace the file's.
    """
    raw, node = read_yaml(path)
    for text in overrides:
        raw = _override(raw, text)
    return build(raw, str(path), node)


def dump(run: Run) -> str:
    """The run in full as YAML, every default written out."""
    text: str = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text

"""One YAML file describes a run; this is its model.

An unknown key, a wrong type or a wrong name is an error that names the file and the line. Sections
that name a registered class (``task``, ``network``, ``algorithm``, ``engine``) are checked against that
class's own ``Settings``, so a new method brings its settings along in its own file.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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

    rounds: int = Field(default=150, ge=1, le=999_999)
    steps_per_round: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="batches a site trains a round; default: one epoch, every slice once",
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
    validation_slices: int = Field(default=16, ge=1, le=65_536, description="slices a site validates on")
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
    device: str = Field(
        default="cpu", pattern=r"^(cpu|mps|cuda(:[0-9]{1,3})?)$", description="cpu, cuda, cuda:1 … or mps"
    )
    cache: Path = Field(
        default=Path(".polysite-cache"), description="folder of prepared cases and phantoms, shared by runs"
    )
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
        for name, site in self.sites.items():
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


FORMATS = ("bids", "table", "files", "phantom")
COMPONENTS = {"task": "tasks", "network": "networks", "algorithm": "algorithms", "engine": "engines"}
"""Key of the YAML -> table of the registry."""
Given = Mapping[tuple[str, ...], str]

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


def _place(location: Sequence[int | str], where: str, root: yaml.Node | None, given: Given) -> str:
    """``--set …`` if a value came from there, else ``file:line``."""
    for path, text in given.items():
        told = tuple(map(str, location))
        own = _line(root, location) is None or _line(root, location) == _line(root, location[:-1])
        if told[: len(path)] == path or (own and path[: len(told)] == told):
            return f"--set {text}"
    line = _line(root, location)
    return f"{where}:{line}" if line else where


def _without_tag(location: Sequence[int | str]) -> list[int | str]:
    """A location without the format's name, which pydantic adds where the kind of data decides the keys."""
    parts = list(location)
    if len(parts) > 3 and parts[0] == "sites" and parts[2] == "data" and parts[3] in FORMATS:
        del parts[3]
    return parts


def _what(item: Mapping[str, Any], key: str) -> str:
    """What is wrong and what would be right, in the words of the YAML."""
    kind, value = item["type"], item["input"]
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"unknown key {key!r}; remove it or check its spelling"
    if kind == "missing":
        return "this key is required"
    if kind in ("at", "value_error"):
        return message
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        told = value.get("format") if isinstance(value, Mapping) else value
        return f"format: choose one of: {', '.join(FORMATS)}, not {told!r}"
    if kind == "string_pattern_mismatch" and "A-Za-z0-9" in message:
        return f"use 1 to 64 letters, digits, - and _, a letter or digit first, not {value!r}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping of keys to values, not {value!r}"
    if kind == "invalid_key":
        return f"a key must be text, not {value!r}; put it in quotes"
    if kind in ("tuple_type", "int_type") and "image_size" not in key:
        return f"must be a {'list, as [a, b]' if kind == 'tuple_type' else 'whole number'}, not {value!r}"
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        count = item["ctx"]["min_length" if few else "max_length"]
        return f"needs at {'least' if few else 'most'} {count} entries, not {value!r}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"must be text, not {value!r}; put it in quotes"
    if kind == "string_pattern_mismatch":
        return f"choose cpu, cuda, cuda:1 … or mps, not {value!r}"
    return f"{message}, not {value!r}"


def explain(
    error: ValidationError,
    where: str,
    root: yaml.Node | None,
    prefix: tuple[str, ...] = (),
    given: Given = MappingProxyType({}),
) -> str:
    """A validation error as lines ``file:line: key: what is wrong``.

    Parameters
    ----------
    given : mapping
        Keys that came from ``--set``, and its text.
    """
    lines = []
    for item in error.errors():
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # its entries are wrong, and told of by themselves
        location = _without_tag([*prefix, *item["loc"], *item.get("ctx", {}).get("location", ())])
        if location and location[-1] == "[key]":
            location.pop()
        path = ".".join(str(part) for part in location) or "the document"
        what = _what(item, str(location[-1]) if location else "")
        lines.append(f"{_place(location, where, root, given)}: {path}: {what}")
    return "\n".join(dict.fromkeys(lines))


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
    except RecursionError as error:
        raise ConfigError(f"--set {text!r}: is nested too deeply") from error
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return merge(raw, nested)


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """A YAML mapping and its syntax tree (for line numbers).

    Raises
    ------
    ConfigError
        If it cannot be read, is no YAML, no mapping, or has a key twice (of which YAML would take the last).
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _keys_once(node, path, set())
        raw = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error}); save it again as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        if "\\t" in problem:
            problem += "; indent with spaces, not with tabs"
        raise ConfigError(
            f"{path}{f':{mark.line + 1}' if mark else ''}: is not valid YAML: {problem}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is not valid YAML: it is nested too deeply") from error
    except ValueError as error:  # a date such as 2020-02-31
        raise ConfigError(f"{path}: is not valid YAML: {error}; put the value in quotes") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not {type(raw).__name__}")
    return raw, node


def _keys_once(node: yaml.Node | None, path: Path, seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    first = lines[key.value]
                    raise ConfigError(
                        f"{path}:{line}: the key {key.value!r} is there twice (first in line {first}); keep one"
                    )
                lines[key.value] = line
            _keys_once(value, path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _keys_once(value, path, seen)


def build(
    raw: Mapping[str, Any],
    where: str = "run",
    root: yaml.Node | None = None,
    given: Given = MappingProxyType({}),
) -> Run:
    """A checked run from a raw mapping: preset below, the mapping's own values above, settings in full.

    Raises
    ------
    ConfigError
        With a line ``file:line: key: what is wrong`` for each trouble.
    """

    def wrong(location: tuple[str, ...], what: object) -> ConfigError:
        return ConfigError(f"{_place(location, where, root, given)}: {'.'.join(location)}: {what}")

    try:
        run = Run.model_validate(_with_preset(_named(raw), wrong))
    except ValidationError as error:
        raise ConfigError(explain(error, where, root, (), given)) from error
    updates = {}
    for key, kind in COMPONENTS.items():
        component: Component = getattr(run, key)
        try:
            settings = settings_of(kind, component)
        except ValidationError as error:
            raise ConfigError(explain(error, where, root, (key,), given)) from error
        except ConfigError as error:
            raise wrong((key, "name"), error) from error
        updates[key] = Component(name=component.name, **settings.model_dump(mode="json"))
    return run.model_copy(update=updates)


def _named(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with the default class named where a component has settings only: ``network: {width: 16}``."""
    full = dict(raw)
    for key in COMPONENTS:
        given, usual = full.get(key), Run.model_fields[key].default.name
        if key not in full:
            full[key] = {"name": usual}
        elif isinstance(given, Mapping) and "name" not in given:
            full[key] = {"name": usual, **given}
    return full


def _with_preset(
    raw: Mapping[str, Any], wrong: Callable[[tuple[str, ...], object], ConfigError]
) -> Mapping[str, Any]:
    """The mapping above the values of its algorithm's preset."""
    algorithm = raw["algorithm"]
    if not isinstance(algorithm, Mapping) or not isinstance(algorithm.get("name"), str):
        return raw
    try:
        presets = lookup("algorithms", algorithm["name"]).PRESETS
    except ConfigError as error:
        raise wrong(("algorithm", "name"), error) from error
    preset = algorithm.get("preset")
    if preset is not None and (not isinstance(preset, str) or preset not in presets):
        known = ", ".join(presets) or "none"
        raise wrong(
            ("algorithm", "preset"),
            f"{preset!r} is not a preset of {algorithm['name']!r}; choose one of: {known}",
        )
    if not presets:
        return raw
    preset = preset or next(iter(presets))
    return merge(merge(presets[preset], raw), {"algorithm": {"preset": preset}})


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
    given = {}
    for text in overrides:
        raw = _override(raw, text)
        given[tuple(text.partition("=")[0].split("."))] = text
    return build(raw, str(path), node, given)


def dump(run: Run) -> str:
    """The run in full as YAML, every default written out."""
    text: str = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text

"""A run's YAML: read, checked, merged with presets and overrides, and written in full.

An unknown key, a wrong type or a wrong name is an error that names the file and the line.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from polysite.config.base import Component, settings_of
from polysite.config.run import Run
from polysite.errors import ConfigError
from polysite.mistakes import Given, explain, place
from polysite.registry import lookup

COMPONENTS = {"task": "tasks", "network": "networks", "algorithm": "algorithms", "engine": "engines"}
"""Key of the YAML -> table of the registry."""


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
        return ConfigError(f"{place(location, where, root, given)}: {'.'.join(location)}: {what}")

    try:
        run = Run.model_validate(_named(_with_preset(_named(raw, ["algorithm"]), wrong)))
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


def _named(raw: Mapping[str, Any], keys: Iterable[str] = COMPONENTS) -> dict[str, Any]:
    """The mapping with the default class named where a component has settings only: ``network: {width: 16}``."""
    full = dict(raw)
    for key in keys:
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

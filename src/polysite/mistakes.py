"""What is wrong with the values of a YAML, in the words of the YAML, with file and line."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from polysite.config.sources import FORMATS
from polysite.registry import choices, nearest

Given = Mapping[tuple[str, ...], str]
"""Key that came from ``--set`` -> its text."""


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


def place(location: Sequence[int | str], where: str, root: yaml.Node | None, given: Given) -> str:
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
    for before in (["data"], ["sites", *parts[1:2], "data"]):
        n = len(before)
        if parts[:n] == before and parts[n : n + 1] and parts[n] in (*FORMATS, "dataset"):
            del parts[n]
    return parts


def _branch(location: Sequence[int | str]) -> int | None:
    """Where a location names, as pydantic does, which of several types was tried: ``int``, or a list of them."""
    tags = ("constrained-int", "constrained-tuple", "tuple[")
    return next(
        (n for n, part in enumerate(location) if isinstance(part, str) and part.startswith(tags)), None
    )


def _of_one_branch(items: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Errors without those of types that a value was not meant to have; of a value of no type the first."""
    fitting: set[tuple[int | str, ...]] = set()
    for item in items:
        branch = _branch(item["loc"])
        if branch is not None and item["type"] not in ("int_type", "tuple_type"):
            fitting.add(item["loc"][:branch])
    for item in items:
        location = item["loc"]
        branch = _branch(location)
        if branch is None:
            yield item
            continue
        value = location[:branch]
        if item["type"] not in ("int_type", "tuple_type"):
            yield {**item, "loc": (*value, *location[branch + 1 :])}
        elif value not in fitting:
            fitting.add(value)
            yield {**item, "loc": value}


def _what(item: Mapping[str, Any], key: str) -> str:
    """What is wrong and what would be right, in the words of the YAML."""
    kind, value = item["type"], item["input"]
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"unknown key {key!r}; remove it or check its spelling"
    if kind == "missing" and key.isdigit():
        return f"needs more entries than {value!r} has"
    if kind == "missing":
        return "this key is required"
    if kind in ("at", "value_error"):
        return message
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        if not isinstance(value, Mapping):
            return f"must be a mapping of keys to values, not {value!r}"
        told = value.get("format")
        known = (*FORMATS, *sorted(choices("datasets")))
        return f"format: choose one of: {', '.join(known)}, not {told!r}{nearest(str(told), known)}"
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
    for item in _of_one_branch(error.errors()):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # its entries are wrong, and told of by themselves
        location = _without_tag([*prefix, *item["loc"], *item.get("ctx", {}).get("location", ())])
        if location and location[-1] == "[key]":
            location.pop()
        path = ".".join(str(part) for part in location) or "the document"
        what = _what(item, str(location[-1]) if location else "")
        lines.append(f"{place(location, where, root, given)}: {path}: {what}")
    return "\n".join(dict.fromkeys(lines))

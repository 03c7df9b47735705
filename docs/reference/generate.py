"""Write the reference pages that follow from the code: ``python docs/reference/generate.py``.

``run-yaml.md`` and ``site-yaml.md`` come from the pydantic models, ``command-line.md`` from the signatures of the
commands, ``datasets/`` from what is known of each public data set. A test compares the committed pages with
what this module makes.
"""

import inspect
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from polysite import cli
from polysite.config.base import Name
from polysite.config.consortium import Consortium
from polysite.config.hospital import Hospital
from polysite.config.run import Run
from polysite.data.datasets.page import page_of
from polysite.registry import TABLES, lookup

HERE = Path(__file__).parent
NAME_PATTERN = get_args(Name)[1].metadata[0].pattern

INTRO = """\
# The run's YAML

One YAML file describes a run. This page lists every key. It is made from the code by
`python docs/reference/generate.py`; a test keeps it in step.

```yaml
name: small
contrasts: [T1w, T2w]
sites:
  north:
    data: {format: bids, path: /data/north}
    tasks: [T1w->T2w]
  south:
    data: {format: phantom, hospital: abbey}
    tasks: [T1w->T2w, T2w->T1w]
algorithm: {name: pflsynth}
training: {rounds: 20, batch_size: 4}
```

* An unknown key, a wrong type or a wrong name is an error that gives the file and the line.
* `--set KEY.KEY=VALUE` replaces one value; VALUE is YAML: `--set training.rounds=3`,
  `--set 'algorithm={name: fedavg, private: []}'`.
* `task`, `network`, `algorithm` and `engine` each name a registered class and hold that class's settings beside `name`.
  A `--set`, or a study's method, that names another class drops the first one's settings.
* A run folder's `config.yaml` is the same format with every default written out.
* `polysite schema` prints the JSON schema of this page's part above the components, for editors.

A *name* has letters, digits, `-` and `_`, begins with a letter or digit, and has at most 64 characters.
`null` means that the key is not set.
"""

NOTES = {
    "The run.name": "the run's name; also the run folder, `runs/NAME`, if `--out` is not given",
    "The run.seed": "decides splits, initial weights, order of slices and volumes, their augmentation, and dropout",
    "The run.device": "where networks compute: `cpu`, `cuda`, `cuda:1`",
    "The run.cache": "folder of phantoms and prepared cases; entries may be deleted at any time",
    "The run.sites": "site -> its scans and tasks; the order is the order of the networks' codes and of aggregation",
    "The run.task": "what a site learns",
    "The run.network": "the generator, or the segmentation network",
    "The run.algorithm": "what travels and how it is aggregated",
    "The run.training": "rounds, steps and the optimiser",
    "The run.exchange": "what a site makes of its tensors before it sends them",
    "The run.prepare": "from scans to normalised volumes, for all sites that say nothing else",
    "The run.split": "which subjects train, validate and test",
    "The run.evaluate": "how predictions are scored",
    "The run.engine": "what carries the federation on this machine",
    "A site.data": "where the scans are: one of the formats below; `dataset` stands for a "
    "[public data set](../README.md#public-data-sets), whose name is its format",
    "A site.tasks": "`SOURCE->TARGET`, both among `contrasts`; each once",
    "data.path": "the folder, or the CSV file of a table; `${VARIABLE}` and `~` are replaced; "
    "relative to where the command runs",
    "data.format": "which reader",
    "data.n_subjects": "subjects to make; the first n of a hospital are always the same persons",
    "data.seed": "decides persons and noise; independent of the run's seed",
    "split.validation": "fraction of a site's subjects",
    "split.test": "fraction of a site's subjects; at least one subject if above 0 and the site has two",
    "training.rounds": "rounds of the federation",
    "training.batch_size": "slices, or volumes, a step",
    "training.learning_rate": "of Adam, for all networks",
    "training.betas": "of Adam",
    "training.schedule_end": "`positive`: the last round of the decay has a rate above 0. `zero`: it trains nothing, "
    "as in the authors' release",
    "training.precision": "`bfloat16`: autocast; parameters, their gradients and Adam's moments stay float32",
    "training.channels_last": "memory format of the convolutions; meant for GPUs",
    "training.compile": "`torch.compile` at the first call; needs a C++ compiler",
    "evaluate.mask": "voxels that count: the head, or all",
    "evaluate.split": "subjects that are predicted and scored",
    "task.l1_weight": "of the mean absolute error in the generator's loss",
    "task.adversarial_weight": "of the adversarial part of the generator's loss",
    "task.discriminator_width": "channels of a discriminator's first convolution",
    "network.mapper_depth": "layers of the mapper",
    "network.norm": "of the convolutional stages; only `batch` keeps running statistics",
    "policy.exchange": "in which form a change may leave; default: any",
    "algorithm.preset": "defaults of this algorithm, below your own values; default: the algorithm's first",
    "algorithm.weights": "a site's weight in the mean: its number of training samples (slices or volumes), or 1",
}
"""What a key means where the model itself does not say it."""

MORE = {
    "algorithm": " With `local` and `central` nothing leaves a site, so `private`, `share_statistics` and `weights` "
    "have no effect there.",
    "engine": " Both give the same bytes for the same number of threads.",
}
"""More about a component."""


# --- run-yaml.md --------------------------------------------------------------------------------------


def run_yaml() -> str:
    """The page about the run's YAML."""
    schema = Run.model_json_schema()
    parts = [INTRO, _section("The run", "", schema, schema, level=2)]
    for title, key, model in (
        ("A site", "`sites.NAME`", "Site"),
        *((f"data: {kind}", "`sites.NAME.data`", f"{kind.title()}Data") for kind in _formats()),
        ("prepare", "`prepare`, `sites.NAME.prepare`", "Prepare"),
        ("split", "`split`", "Split"),
        ("training", "`training`", "Training"),
        ("exchange", "`exchange`", "Exchange"),
        ("evaluate", "`evaluate`", "Evaluate"),
    ):
        parts.append(_section(title, key, schema["$defs"][model], schema, level=2))
    for key, kind in (
        ("task", "tasks"),
        ("network", "networks"),
        ("algorithm", "algorithms"),
        ("engine", "engines"),
    ):
        parts.append(f"## {key}\n\n`name` is one of: {_listed(TABLES[kind], 'or')}.{MORE.get(key, '')}\n")
        for name in TABLES[kind]:
            settings = lookup(kind, name).Settings.model_json_schema()
            settings.pop("description", None)
            parts.append(_section(f"{key}: {name}", "", settings, settings, level=3))
            for part, model in settings.get("$defs", {}).items():
                parts.append(_section(SECTIONS[part], f"`{key}.{SECTIONS[part]}`", model, settings, level=3))
    parts.append(_presets())
    return "\n".join(parts)


def _formats() -> list[str]:
    return [*TABLES["readers"], "dicom", "phantom", "elsewhere"]


def _section(title: str, key: str, model: Mapping[str, Any], root: Mapping[str, Any], *, level: int) -> str:
    lines = [f"{'#' * level} {title}", ""]
    about = " ".join(text for text in (key and f"{key}:", model.get("description", "")) if text)
    if about := about.replace("``", "`"):
        lines += [about if about.endswith((".", ":")) else f"{about}.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = model.get("required", [])
    for name, field in sorted(model["properties"].items(), key=lambda item: item[0] != "format"):
        default = "required" if name in required else f"`{_plain(field.get('default'))}`"
        default = "as there" if name not in required and _is_section(field) else default
        meaning = meaning_of(title, name, field)
        cells = (f"`{name}`", _type(field, root), default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _is_section(field: Mapping[str, Any]) -> bool:
    """Whether a key holds a section with defaults of its own."""
    if field.get("default", {}) is None:
        return False
    return any(
        choice.get("$ref", "").rsplit("/", 1)[-1] in SECTIONS for choice in (field, *field.get("anyOf", ()))
    )


def meaning_of(title: str, name: str, field: Mapping[str, Any]) -> str:
    """What a key means: the model's description, or else this module's note."""
    section = title.split(":")[0]
    if "$ref" not in field and field.get("description"):
        return str(field["description"])
    return NOTES.get(f"{section}.{name}", "")


def _plain(value: Any) -> str:
    """A default as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


SECTIONS = {
    "Prepare": "prepare",
    "Split": "split",
    "Training": "training",
    "Evaluate": "evaluate",
    "Augment": "augment",
    "Policy": "policy",
    "Exchange": "exchange",
    "ExchangePolicy": "exchange",
}
"""Class -> title of its table."""


def _type(field: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{SECTIONS[name]}](#{SECTIONS[name]})" if name in SECTIONS else _named(name)
    if "anyOf" in field:
        return " or ".join(_type(choice, root) for choice in field["anyOf"])
    if "oneOf" in field:
        return "a format"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return _listed(field["enum"], "or")
    kind = field["type"]
    if kind == "array":
        return _array(field, root)
    if kind == "object":
        return _mapping(field, root)
    if kind == "string":
        if field.get("pattern") == NAME_PATTERN:
            return "name"
        return "path" if field.get("format") == "path" else "text"
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "null": "`null`"}
    return words[kind] + _bounds(field)


def _named(name: str) -> str:
    return {"Component": "component", "Site": "[site](#a-site)"}[name]


def _array(field: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {_type(field['prefixItems'][0], root)}"
    least = f", at least {field['minItems']}" if field.get("minItems") else ""
    return f"list of {_type(field['items'], root)}{least}"


def _mapping(field: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "patternProperties" in field:
        key, value = "name", next(iter(field["patternProperties"].values()))
    else:
        key, value = (
            _type({"type": "string", **field.get("propertyNames", {})}, root),
            field["additionalProperties"],
        )
    return f"mapping {key} -> {_type(value, root)}"


def _bounds(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {_number(field[key])}" for key, sign in signs.items() if key in field]
    return f" {', '.join(found)}" if found else ""


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,}".removesuffix(".0")


def _listed(names: Any, last: str) -> str:
    quoted = [f"`{name}`" for name in names]
    return f" {last} ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _presets() -> str:
    lines = [
        "## Presets",
        "",
        "A preset gives defaults below your own values. The first is taken if `algorithm.preset` is not set.",
        "",
        "| algorithm | preset | gives |",
        "|---|---|---|",
    ]
    for name in TABLES["algorithms"]:
        for preset, values in lookup("algorithms", name).PRESETS.items():
            given = "; ".join(f"`{key}: {_plain(dict(part))}`" for key, part in values.items())
            lines.append(f"| {name} | {preset} | {given} |")
    return "\n".join(lines) + "\n"


# --- site-yaml.md -------------------------------------------------------------------------------------

SITE_INTRO = """\
# The YAML of hospitals

What a run [across hospitals](../how-to/hospitals.md) needs beside its own YAML. This page is made from the code by
`python docs/reference/generate.py`; a test keeps it in step.
"""


def site_yaml() -> str:
    """The page about SITE.yaml and CONSORTIUM.yaml."""
    site, consortium = Hospital.model_json_schema(), Consortium.model_json_schema()
    for schema in (site, consortium):
        schema.pop("description")
    data = "The formats of `data` are those of [a run's sites](run-yaml.md#data-bids), without `elsewhere`.\n"
    return "\n".join(
        [
            SITE_INTRO,
            _section("SITE.yaml", "", site, site, level=2),
            data,
            _section("policy", "`policy` in SITE.yaml", site["$defs"]["Policy"], site, level=2),
            _section("exchange", "`policy.exchange`", site["$defs"]["ExchangePolicy"], site, level=3),
            _section("CONSORTIUM.yaml", "", consortium, consortium, level=2),
        ]
    )


# --- command-line.md ----------------------------------------------------------------------------------

COMMANDS_INTRO = """\
# The command line

`polysite COMMAND --help` says the same in the terminal. This page is made from the code by
`python docs/reference/generate.py`; a test keeps it in step.

| status | meaning |
|---|---|
| 0 | done |
| 1 | trouble with data, files or a stored state; `check` found an error |
| 2 | the YAML or the command line is wrong |
| 130 | stopped by Ctrl-C |

Messages and progress go to standard error. What a script may want to read goes to standard output: paths written,
tables, the plan, the schema.
"""


def command_line() -> str:
    """The page about the commands."""
    parts = [COMMANDS_INTRO]
    for command in cli.app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        parts.append(_command(name, command.callback))
    return "\n".join(parts)


def _command(name: str, callback: Any) -> str:
    rows, usage = [], [f"polysite {name}"]
    for parameter in inspect.signature(callback).parameters.values():
        base, info = get_args(parameter.annotation)[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            word = info.metavar or parameter.name.upper()
            usage.append(word if required else f"[{word}]")
            spelled = word
        else:
            assert isinstance(info, OptionInfo)
            spelled, flag = option_of(parameter.name, info), bool in _bases(base)
            spelled = spelled if flag else f"{spelled} {info.metavar or _value(base)}"
            usage.append(spelled if required else f"[{spelled}]")
        default = "required" if required else _default(parameter.default)
        bound = f"≥ {info.min:g}" if info.min is not None else ""
        meaning = "; ".join(text for text in (info.help or "", bound) if text)
        meaning += "; may be given several times" if list in _origins(base) and spelled[0] == "-" else ""
        rows.append(f"| `{spelled}` | {default} | {meaning} |")
    about = inspect.getdoc(callback)
    lines = [f"## polysite {name}", "", about or "", "", "```", " ".join(usage), "```", ""]
    if rows:
        lines += ["| argument or option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def option_of(name: str, info: OptionInfo) -> str:
    """How an option is spelled, as typer makes it from the parameter's name."""
    return info.param_decls[0] if info.param_decls else "--" + name.strip("_").replace("_", "-")


def _bases(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _bases(get_args(annotation)[0])
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _origins(annotation: Any) -> tuple[Any, ...]:
    return tuple(get_origin(base) for base in _bases(annotation))


def _value(annotation: Any) -> str:
    words = {Path: "PATH", str: "TEXT", int: "N", float: "NUMBER"}
    return words[_bases(annotation)[0]]


def _default(value: Any) -> str:
    return "" if value is None or value is False else f"`{value}`"


PAGES = {
    "run-yaml.md": run_yaml,
    "site-yaml.md": site_yaml,
    "command-line.md": command_line,
    **{f"datasets/{name}.md": partial(page_of, lookup("datasets", name)) for name in TABLES["datasets"]},
}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (HERE / file).parent.mkdir(exist_ok=True)
        (HERE / file).write_text(make(), encoding="utf-8")

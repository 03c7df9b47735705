"""What is told of a data set: its page, and a run to begin with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polysite.data.datasets.dataset import Dataset, Found, Visit

MOST_SITES = 5
"""Sites of an example at most; the largest are taken."""


@dataclass(frozen=True)
class Setting:
    """What an example is made for: its sites, images, and the contrasts that not every visit has.

    ``choose`` says whether there is more than these sites' own data in the folder.
    """

    sites: Sequence[str]
    contrasts: Sequence[str]
    require: Sequence[str] = ()
    choose: bool = True


def usual_setting(dataset: Dataset) -> Setting:
    """The setting of a data set that nobody has looked into."""
    sites = dataset.sites[:MOST_SITES]
    return Setting(sites, dataset.pair or dataset.contrasts, dataset.pair or (), len(sites) > 1)


def setting_of(dataset: Dataset, found: Found) -> Setting:
    """The setting that fits what a folder holds: sites that can take part, the largest first."""
    visits = [visit for visit in found.visits if _usable(dataset, visit)]
    sizes = {site: sum(visit.site == site for visit in visits) for site in sorted({v.site for v in visits})}
    sites = sorted(sizes, key=lambda site: -sizes[site])[:MOST_SITES]
    names = dataset.pair or [name for name in dataset.contrasts if any(name in v.images for v in visits)]
    lacking = any(not set(names) <= set(visit.images) for visit in found.visits)
    several = len({visit.site for visit in found.visits}) > 1
    return Setting(sites, names, names if dataset.pair and lacking else (), several)


def _usable(dataset: Dataset, visit: Visit) -> bool:
    """Whether a visit can be trained on: both contrasts of the task, or a label image."""
    return set(dataset.pair) <= set(visit.images) if dataset.pair else bool(visit.labels)


def example_of(dataset: Dataset, root: Path, setting: Setting) -> str:
    """A small run as YAML, or a comment that says why there is none.

    Parameters
    ----------
    root : Path
        The data set's folder, as the run names it.
    """
    if dataset.unpaired:
        return f"# No run can be trained on these files alone: {dataset.unpaired}."
    sites = {
        f"{dataset.name}-{_slug(site)}": _site(dataset, root, setting, site) for site in setting.sites
    } or {dataset.name: _site(dataset, root, setting, None)}
    run: dict[str, Any] = {"name": dataset.name, "contrasts": list(setting.contrasts), "sites": sites}
    if not dataset.pair:
        run |= {
            "task": {"name": "segmentation"},
            "network": {"name": "fedcrld"},
            "algorithm": {"name": "fedavg"},
        }
    return _dumped({**run, "training": {"rounds": 10, "steps_per_round": 20}})


def _slug(site: str) -> str:
    """A site's value as part of a name in YAML."""
    return re.sub(r"[^A-Za-z0-9]+", "-", site).strip("-")[:40] or "site"


def _site(dataset: Dataset, root: Path, setting: Setting, site: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {"format": dataset.name, "path": str(root)}
    if site is not None and setting.choose:
        data["where"] = {"site": site}
    if setting.require:
        data["require"] = list(setting.require)
    goal = {"tasks": ["->".join(dataset.pair)]} if dataset.pair else {"labels": dict(dataset.labels)}
    return {"data": data, **goal}


def _dumped(run: Mapping[str, Any]) -> str:
    """A run as YAML with short sections in one line, as people write it."""
    lines = []
    for key, value in run.items():
        if key != "sites":
            lines.append(f"{key}: {_inline(value)}")
            continue
        lines.append("sites:")
        for name, site in value.items():
            lines.append(f"  {name}:")
            lines += [f"    {part}: {_inline(content)}" for part, content in site.items()]
    return "\n".join(lines)


def _inline(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def page_of(dataset: Dataset) -> str:
    """A data set's page, in Markdown."""
    labels = ", ".join(f"{name} {value}" for name, value in dataset.labels.items())
    facts = {
        "Home page": dataset.url,
        "How to get it": dataset.access,
        "Licence": dataset.licence,
        "Cite": dataset.citation,
        "Images": ", ".join(dataset.contrasts),
        "Labels": f"{labels}; 0 is background" if labels else "none",
        "Sites": dataset.site_key,
    }
    example = example_of(dataset, Path("/data") / dataset.name, usual_setting(dataset))
    if not dataset.unpaired:
        example = f"```yaml\n{example}\n```"
    return "\n".join(
        [
            f"# {dataset.title}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in facts.items()),
            "",
            "## On disk",
            "",
            "Any folder above these may be `path`; `.nii` and `.nii.gz` are the same.",
            "",
            "```",
            dataset.layout,
            "```",
            "",
            "## What to know",
            "",
            *(f"* {trap}" for trap in dataset.traps),
            "",
            "## A run",
            "",
            example.removeprefix("# "),
            "",
            f"`polysite datasets {dataset.name} ROOT` shows what a folder holds, by site, with the values that `where` "
            "may name, and writes a run that fits it.",
            "",
        ]
    )

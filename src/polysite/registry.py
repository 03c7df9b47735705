"""Visible tables of everything that a run can name, and how a name becomes a class.

A table maps a name to ``"module:Attribute"``, so nothing heavy is imported before it is used. Other
packages add names through the entry-point groups ``polysite.<kind>`` (for example ``polysite.algorithms``).
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from polysite.errors import ConfigError

TABLES: dict[str, dict[str, str]] = {
    "readers": {
        "bids": "polysite.data.bids:read_cases",
        "table": "polysite.data.table:read_cases",
        "files": "polysite.data.files:read_cases",
        "dataset": "polysite.data.datasets.reader:read_cases",
    },
    "datasets": {
        "acdc": "polysite.data.datasets.acdc:ACDC",
        "brats": "polysite.data.datasets.brats:BRATS",
        "brats2023": "polysite.data.datasets.brats:BRATS2023",
        "emidec": "polysite.data.datasets.emidec:EMIDEC",
        "fastmri": "polysite.data.datasets.fastmri:FASTMRI",
        "ixi": "polysite.data.datasets.ixi:IXI",
        "midas": "polysite.data.datasets.midas:MIDAS",
        "mnms": "polysite.data.datasets.mnms:MNMS",
        "mnms2": "polysite.data.datasets.mnms2:MNMS2",
        "oasis3": "polysite.data.datasets.oasis3:OASIS3",
    },
    "networks": {
        "pflsynth": "polysite.networks.generator:Generator",
        "fedcrld": "polysite.networks.crld:CRLD",
        "unet": "polysite.networks.unet:UNet",
    },
    "tasks": {
        "synthesis": "polysite.tasks.synthesis:Synthesis",
        "segmentation": "polysite.tasks.segmentation:Segmentation",
    },
    "algorithms": {
        "local": "polysite.algorithms.local:Local",
        "fedavg": "polysite.algorithms.algorithm:Algorithm",
        "central": "polysite.algorithms.central:Central",
        "fedprox": "polysite.algorithms.fedprox:FedProx",
        "fedbn": "polysite.algorithms.fedbn:FedBN",
        "ditto": "polysite.algorithms.ditto:Ditto",
        "moon": "polysite.algorithms.moon:Moon",
        "pflsynth": "polysite.algorithms.pflsynth:PFLSynth",
        "fedcrld": "polysite.algorithms.fedcrld:FedCRLD",
    },
    "engines": {
        "here": "polysite.engines.here:Here",
        "processes": "polysite.engines.processes:Processes",
    },
}


def choices(kind: str) -> dict[str, str]:
    """All names of a kind with their ``module:Attribute``, built-in and from entry points."""
    found = {point.name: point.value for point in entry_points(group=f"polysite.{kind}")}
    return found | TABLES[kind]


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` if a known name is like the given one, else nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def lookup(kind: str, name: str) -> Any:
    """The object registered under a name.

    Raises
    ------
    ConfigError
        If the name is unknown; the message lists the choices and the nearest one.
    """
    table = choices(kind)
    if name not in table:
        raise ConfigError(
            f"{name!r} is not one of the {kind}{nearest(name, table)}; choose one of: {', '.join(sorted(table))}"
        )
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)

"""One YAML file describes a run; this is its model. ``polysite.recipe`` reads it.

Sections that name a registered class (``task``, ``network``, ``algorithm``, ``engine``) are checked against
that class's own ``Settings``, so a new method brings its settings along in its own file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from polysite.config.base import Component, DeviceName, Name, Section, anchored, at, expand
from polysite.config.exchange import Exchange
from polysite.config.prepare import Prepare
from polysite.config.site import Site, parse_task
from polysite.config.sources import ElsewhereData, PhantomData
from polysite.config.training import Training
from polysite.errors import ConfigError

RESERVED_SITE = "pooled"
"""The name under which all data in one place takes part."""


UNDECISIVE = ("label", "cache", "device", "engine", "evaluate")
"""Keys that decide nothing about the trained models."""
LATER = {"exchange": Exchange().model_dump(mode="json")}
"""Keys that came later, with the value that changes nothing: with it a run has the digest that it had without."""


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
    device: DeviceName = Field(default="cpu", description="cpu, cuda, cuda:1 … or mps")
    cache: Path = Field(
        default=Path(".polysite-cache"), description="folder of prepared cases and phantoms, shared by runs"
    )
    contrasts: tuple[Name, ...] = Field(min_length=1, description="in the order of the networks' codes")
    sites: dict[Name, Site] = Field(min_length=1)
    task: Component = Component(name="synthesis")
    network: Component = Component(name="pflsynth")
    algorithm: Component = Component(name="pflsynth")
    training: Training = Training()
    exchange: Exchange = Exchange()
    prepare: Prepare = Prepare()
    split: Split = Split()
    evaluate: Evaluate = Evaluate()
    engine: Component = Component(name="here")
    _known_by: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> "Run":
        known = ", ".join(self.contrasts)
        if len(set(self.contrasts)) < len(self.contrasts):
            raise at(["contrasts"], f"lists one twice: {known}")
        sections: list[tuple[tuple[str, ...], Prepare | None]] = [(("prepare",), self.prepare)]
        sections += [(("sites", name, "prepare"), site.prepare) for name, site in self.sites.items()]
        for section, prepare in sections:
            if prepare and prepare.reference is not None and prepare.reference not in self.contrasts:
                raise at([*section, "reference"], f"{prepare.reference!r} is not among `contrasts` ({known})")
            for contrast in prepare.white_stripe if prepare else ():
                if contrast not in self.contrasts:
                    raise at(
                        [*section, "white_stripe", contrast],
                        f"{contrast!r} is not among `contrasts` ({known})",
                    )
            if self.task.name == "synthesis" and prepare and prepare.normalisation not in (None, "range"):
                raise at(
                    [*section, "normalisation"],
                    f"{prepare.normalisation!r} has no ends, but synthesis draws values from -1 to 1; use range",
                )
        for name, site in self.sites.items():
            settings = site.prepare or self.prepare
            if settings.mask == "given" and not getattr(site.data, "masks", None):
                raise at(["sites", name, "data"], "needs `masks`, because prepare.mask is 'given'")
        goal = GOALS.get(self.task.name)
        for name, site in self.sites.items():
            if goal and not getattr(site, goal):
                raise at(
                    ["sites", name],
                    f"needs `{goal}`, because the run's task is {self.task.name}",
                )
            if name == RESERVED_SITE:
                raise at(["sites", name], f"a site cannot be called {name!r}: it names all data in one place")
            for text in site.tasks:
                for contrast in parse_task(text):
                    if contrast not in self.contrasts:
                        raise at(
                            ["sites", name, "tasks"],
                            f"{contrast!r} in {text!r} is not among `contrasts` ({known})",
                        )
            for key in ("contrasts", "label_images", "frames"):
                given = getattr(site.data, key, None)
                for contrast in given if isinstance(given, dict) else ():
                    if contrast not in self.contrasts:
                        raise at(
                            ["sites", name, "data", key, contrast],
                            f"{contrast!r} is not among `contrasts` ({known})",
                        )
            for contrast in getattr(site.data, "require", ()):
                if contrast not in self.contrasts:
                    message = f"{contrast!r} is not among `contrasts` ({known})"
                    raise at(["sites", name, "data", "require"], message)
        for name in self.split.subjects:
            if name not in self.sites:
                raise at(
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
            if isinstance(site.data, PhantomData | ElsewhereData)
            else site.model_copy(
                update={
                    "data": site.data.model_copy(
                        update={
                            name: anchored(path)
                            for name in ("path", "secret", "key")
                            if isinstance(path := getattr(site.data, name, None), Path)
                        }
                    )
                }
            )
            for name, site in self.sites.items()
        }
        return self.model_copy(update={"sites": sites, "cache": anchored(self.cache)})

    @property
    def here(self) -> dict[str, Site]:
        """The sites whose scans this machine can read, in their order."""
        return {name: site for name, site in self.sites.items() if not isinstance(site.data, ElsewhereData)}

    def agreed(self) -> "Run":
        """What the hospitals of a run agree on: the same run without anything that is a machine's own.

        Its digest is the same at every hospital and at the server.
        """
        sites = {name: site.model_copy(update={"data": ElsewhereData()}) for name, site in self.sites.items()}
        usual = {key: type(self).model_fields[key].default for key in ("cache", "device", "engine")}
        split = self.split.model_copy(update={"subjects": {}})
        agreed = self.model_copy(update={"sites": sites, "split": split, **usual})
        if self.here:  # a hospital's own folder is known by another digest
            agreed._known_by = None
        return agreed

    def digest(self) -> str:
        """What the run is known by: see :func:`digest_of`."""
        return self._known_by or digest_of(self.model_dump(mode="json"))

    def known_by(self, digest: str) -> "Run":
        """The same run under the digest that its folder was made with, when settings of today did not exist."""
        run = self.model_copy()
        run._known_by = digest
        return run


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of everything in a run's mapping that decides the trained models.

    Of a run folder it is taken from the file as it stands: settings that came later are not in it, so a folder is
    still itself after an upgrade. A policy that allows a run by its digest still allows it, too (see ``LATER``).
    """
    decisive = {
        key: value
        for key, value in content.items()
        if key not in UNDECISIVE and (key not in LATER or value != LATER[key])
    }
    decisive["order"] = list(content["sites"])
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

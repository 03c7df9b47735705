"""SITE.yaml and CONSORTIUM.yaml: read; and the first laid over the run that the hospitals agreed on."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from polysite import recipe
from polysite.config.base import Section
from polysite.config.consortium import Consortium
from polysite.config.hospital import Hospital
from polysite.config.run import Run
from polysite.errors import ConfigError
from polysite.mistakes import explain

T = TypeVar("T", bound=Section)


def load_hospital(path: Path) -> Hospital:
    """Read and check a SITE.yaml.

    Raises
    ------
    ConfigError
        With a line ``file:line: key: what is wrong`` for each trouble.
    """
    return _load(path, Hospital)


def load_consortium(path: Path) -> Consortium:
    """Read and check a CONSORTIUM.yaml, as `load_hospital` does a SITE.yaml."""
    return _load(path, Consortium)


def _load(path: Path, kind: type[T]) -> T:
    raw, node = recipe.read_yaml(path)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, str(path), node)) from error


def at_hospital(run: Run, hospital: Hospital) -> Run:
    """The agreed run as one hospital works on it: with its own scans, cache, device and threads.

    What the hospital says of contrasts that the run does not have is left out, so one SITE.yaml serves many runs.

    Raises
    ------
    ConfigError
        If the run has no such site, or cannot use its scans.
    """
    if hospital.site not in run.sites:
        raise ConfigError(
            f"site: the run {run.name!r} has no {hospital.site!r}; it has {', '.join(run.sites)}"
        )
    data: dict[str, Any] = hospital.data.model_dump(mode="json")
    for key in ("contrasts", "label_images", "frames"):
        if isinstance(data.get(key), dict):
            data[key] = {name: value for name, value in data[key].items() if name in run.contrasts}
    raw = run.agreed().model_dump(mode="json")
    raw["sites"][hospital.site]["data"] = data
    raw["split"]["subjects"] = {} if hospital.subjects is None else {hospital.site: hospital.subjects}
    raw |= {"cache": str(hospital.cases), "device": hospital.device}
    raw["engine"] = {"name": "here", "threads": hospital.threads}
    return recipe.build(raw, f"the run {run.name!r} at {hospital.site}")

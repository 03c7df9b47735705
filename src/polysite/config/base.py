"""What every part of a run's YAML is built from: sections, components, names and paths."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from polysite.errors import ConfigError
from polysite.registry import lookup

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
DeviceName = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:[0-9]{1,3})?)$")]


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


def at(location: Sequence[str], message: str) -> PydanticCustomError:
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


def settings_of(kind: str, component: Component) -> Any:
    """A component's settings, checked against the ``Settings`` of the class that it names."""
    return lookup(kind, component.name).Settings(**component.settings)

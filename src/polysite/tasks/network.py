"""The run's network for a task: a wrong kind is told before anything is built."""

import inspect
from typing import Any

from polysite.config.base import Component, settings_of
from polysite.errors import ConfigError
from polysite.registry import choices, lookup


def network_of(component: Component, task: str, keyword: str) -> tuple[Any, Any]:
    """Class and settings of a registered network.

    Parameters
    ----------
    task : str
        The task's name, for the error.
    keyword : str
        What the constructor of a network for this task takes.

    Raises
    ------
    ConfigError
        If the network is for another task; the message lists the choices.
    """

    def fits(name: str) -> bool:
        parameters = inspect.signature(lookup("networks", name)).parameters
        return keyword in parameters or any(
            parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
        )

    if not fits(component.name):
        able = ", ".join(sorted(name for name in choices("networks") if fits(name)))
        raise ConfigError(f"network.name: {component.name!r} is not for {task}; choose one of: {able}")
    return lookup("networks", component.name), settings_of("networks", component)

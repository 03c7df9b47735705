"""Pages from the templates and style sheets beside this file: everything that is filled in is escaped."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup


def rendered(
    name: str, styles: tuple[str, ...], filters: Mapping[str, Any], content: Mapping[str, Any]
) -> str:
    """A template filled in; it finds the style sheets as ``style``."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    here = files("polysite.report")
    template = environment.from_string(here.joinpath(name).read_text(encoding="utf-8"))
    style = Markup("\n").join(Markup(here.joinpath(sheet).read_text(encoding="utf-8")) for sheet in styles)
    return template.render(style=style, **content)

"""The contracts run on toy models that have a normalisation layer too."""

from typing import Any

import pytest

from polysite import recipe
from toy import CrewMaker


@pytest.fixture
def toy_crew(toy_crew: CrewMaker) -> CrewMaker:
    """As elsewhere, with ``task.norm``."""

    def make(n_sites: int = 2, folder: str = "run", **over: Any) -> Any:
        return toy_crew(n_sites, folder, **recipe.merge({"task": {"norm": True}}, over))

    return make

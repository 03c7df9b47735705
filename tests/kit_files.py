"""Consortiums, their kits, and files compared byte for byte."""

from pathlib import Path
from typing import Any

from polysite.config.consortium import Consortium
from polysite.kits.provisioning import provision


def consortium(**over: Any) -> Consortium:
    """Two hospitals and a server that is not there."""
    return Consortium(
        **{"name": "trial", "server": "fl.example.org", "hospitals": ("north", "south"), **over}
    )


def kits(out: Path, **over: Any) -> Path:
    """A folder of kits."""
    provision(consortium(**over), out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path, hidden ones too, but not locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }

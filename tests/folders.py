"""Folders of empty files, and what readers find in them."""

from pathlib import Path
from typing import Literal


def tree(root: Path, *names: str) -> Path:
    """Empty files: readers never open an image."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(cases: list, root: Path, what: Literal["images", "labels"] = "images") -> dict[str, dict[str, str]]:
    """Case -> contrast -> path below the root."""
    return {
        case.key: {name: path.relative_to(root).as_posix() for name, path in getattr(case, what).items()}
        for case in cases
    }

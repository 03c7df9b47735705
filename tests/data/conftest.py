"""Files of a head of ellipsoids."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from heads import grid_affine, head
from polysite.data.case import Case
from polysite.image import Image, write_image


@pytest.fixture
def write_head() -> Callable[..., Image]:
    """Writes the head as a file and gives the image."""

    def write(
        path: Path,
        contrast: str = "T1w",
        shape: tuple[int, int, int] = (33, 38, 31),
        spacing: tuple[float, float, float] = (3.0, 3.0, 3.0),
        codes: str = "RAS",
        gain: float = 1.0,
        moved: NDArray[Any] | None = None,
    ) -> Image:
        affine = grid_affine(shape, spacing, codes)
        image = Image(gain * head(contrast, shape, affine, moved), affine, contrast, 1, 2)
        write_image(image, path)
        return image

    return write


@pytest.fixture
def make_case(tmp_path: Path, write_head: Callable[..., Image]) -> Callable[..., Case]:
    """A case whose contrasts are written as files; keywords per contrast replace the head's defaults."""

    def make(
        subject: str = "01", contrasts: tuple[str, ...] = ("T1w", "T2w"), site: str = "north", **over: Any
    ) -> Case:
        images = {}
        for contrast in contrasts:
            path = tmp_path / "scans" / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz"
            # a gain of its own makes subjects differ
            gain = 1 + sum(map(ord, site + subject)) / 1e4
            write_head(path, contrast, **{"gain": gain, **over.get(contrast, {})})
            images[contrast] = path
        return Case(site, subject, None, images, tmp_path / "scans")

    return make

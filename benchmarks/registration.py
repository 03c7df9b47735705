"""Compare the preparation's registration with supplied reference transforms.

Usage: POLYSITE_REAL_DATA=FOLDER python benchmarks/registration.py

The folder holds ``brain_bids`` with ``derivatives/registration/<sub>/<sub>_from-FLAIR_to-<contrast>_itk.txt``:
affine transforms of points of FLAIR to points of the other contrast (mm, LPS). The table gives the distance
between the reference and its own nearest rigid transform as well: the floor that no rigid registration gets below.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.config.prepare import Preparation, Transform
from polysite.data.register import Registration, register
from polysite.data.single import oriented
from polysite.image import read_image

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
INNER_MM = 18.0


def reference_transform(path: Path) -> NDArray[np.float64]:
    """An ITK affine transform file as a matrix on points in RAS+."""
    fields = dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)
    values = np.array(fields["Parameters"].split(), dtype=float)
    centre = np.array(fields["FixedParameters"].split(), dtype=float)
    matrix = np.eye(4)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS


def nearest_rigid(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rigid transform that maps the points to nearest where the affine one does (Kabsch)."""
    there = points @ affine[:3, :3].T + affine[:3, 3]
    u, _, v = np.linalg.svd((points - points.mean(0)).T @ (there - there.mean(0)))
    rigid = np.eye(4)
    rigid[:3, :3] = v.T @ np.diag([1, 1, np.sign(np.linalg.det(v.T @ u.T))]) @ u.T
    rigid[:3, 3] = there.mean(0) - rigid[:3, :3] @ points.mean(0)
    return rigid


def apart(first: NDArray[np.float64], second: NDArray[np.float64], points: NDArray[np.float64]) -> str:
    """Mean and largest distance in mm between where two transforms map the points."""
    difference = first - second
    distance = np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1)
    return f"{distance.mean():5.2f} {distance.max():5.2f}"


def brain_points(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of the voxels deep inside the head: about the brain, (n, 3)."""
    deep = np.pad(mask, ((0, 0), (0, 0), (1, 1)), mode="edge")  # the head goes on beyond the last slices
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inner = ndimage.distance_transform_edt(deep, sampling=spacing)[:, :, 1:-1] > INNER_MM
    return np.argwhere(inner) @ affine[:3, :3].T + affine[:3, 3]


def main() -> None:
    """Print the table."""
    if not os.environ.get("POLYSITE_REAL_DATA"):
        sys.exit("set POLYSITE_REAL_DATA to the folder that holds brain_bids")
    root = Path(os.environ["POLYSITE_REAL_DATA"]) / "brain_bids"
    print("distances over the brain in mm, mean and largest; mutual information in nats")
    print("FLAIR to         headers      rigid      rigid floor    affine     information               s")
    for path in sorted(root.glob("derivatives/registration/sub-*/*_from-FLAIR_to-*_itk.txt")):
        subject, _, to, _ = path.stem.split("_")
        contrast = to.removeprefix("to-")
        fixed, moving = (
            oriented(read_image(root / subject / "anat" / f"{subject}_{name}.nii.gz", name), Preparation())
            for name in ("FLAIR", contrast)
        )
        both = ((fixed.look(), fixed.grid.affine, fixed.mask), (moving.look(), moving.grid.affine))
        rigid, rigid_s = timed(*both, "rigid")
        affine, affine_s = timed(*both, "affine")
        points = brain_points(fixed.mask, fixed.grid.affine)
        reference = reference_transform(path)
        row = [apart(one, reference, points) for one in (np.eye(4), rigid.transform)]
        row.append(apart(nearest_rigid(reference, points), reference, points))
        row.append(apart(affine.transform, reference, points))
        steps = (rigid.information_before, rigid.information_after, affine.information_after)
        told = " -> ".join(f"{information:.3f}" for information in steps)
        print(
            f"{subject} {contrast}  {'  '.join(row)}  {told}  {rigid_s:4.1f} {affine_s:4.1f}  "
            f"stretch {100 * affine.stretch:.1f} %  {affine.warning or ''}"
        )


def timed(fixed: Any, moving: Any, kind: Transform) -> tuple[Registration, float]:
    """A registration and how long it took."""
    begin = time.perf_counter()
    found = register(*fixed, *moving, kind=kind)
    return found, time.perf_counter() - begin


if __name__ == "__main__":
    main()

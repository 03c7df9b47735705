"""Compare the found brain and the estimated shading with the phantom's truth.

Usage: python benchmarks/preparation.py

One person of each of four hospitals at 3 mm. For every contrast: Dice of the mask `brain` with brain and fluid, and
the share of brain tissue inside it. For the first contrast, whose pose is the truth's: correlation of the logarithms
of N4's field and the true one over the brain, and the coefficient of variation of white matter before, after N4, and
with the true field divided out. Each with the mask of the head and with that of the brain.
"""

import time

import numpy as np

from polysite.data.bias import field_of, log_field
from polysite.data.mask import brain_mask, head_mask
from polysite.phantom.examination import Examination, examine
from polysite.phantom.hospital import Hospital, hospitals
from polysite.phantom.random import stream
from polysite.phantom.scanner import draw_bias
from polysite.phantom.tissue import TISSUES

OUTSIDE = ("air", "bone", "marrow", "fat", "muscle", "skin", "vitreous", "lens")
SEED = 11


def main() -> None:
    """Print both tables."""
    seen = [
        (hospital, examine(hospital, hospital.contrasts, seed=SEED, number=1, voxel_mm=3.0))
        for hospital in hospitals()[:4]
    ]
    print("hospital  contrast  Dice   tissue inside")
    for hospital, examination in seen:
        brains(hospital, examination)
    print("\nhospital  mask   correlation  variation: before  after  true field     s")
    for hospital, examination in seen:
        shading(hospital, examination)


def brains(hospital: Hospital, seen: Examination) -> None:
    """A row for each contrast."""
    truth = ~np.isin(seen.labels, [TISSUES.index(name) for name in OUTSIDE])
    tissue = truth & (seen.labels != TISSUES.index("csf"))
    for scan in seen.scans:
        mask = brain_mask(np.asarray(scan.image, np.float32), np.asarray(seen.grid.step_mm))
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        inside = (mask & tissue).sum() / tissue.sum()
        print(f"{hospital.name:9} {scan.protocol.contrast:8}  {dice:.3f}  {inside:.3f}")


def shading(hospital: Hospital, seen: Examination) -> None:
    """A row for each mask."""
    first, spacing = seen.scans[0], np.asarray(seen.grid.step_mm)
    rng = stream(SEED, hospital.name, 1, first.protocol.contrast)
    truth = draw_bias(rng, seen.grid, strength=hospital.bias)
    image = np.asarray(first.image, np.float32)
    white = seen.labels == TISSUES.index("white_matter")
    brain = ~np.isin(seen.labels, [TISSUES.index(name) for name in (*OUTSIDE, "csf")])
    for name, find in (("head", head_mask), ("brain", brain_mask)):
        mask = find(image, spacing)
        begin = time.perf_counter()
        field = field_of(log_field(image, spacing, mask), image.shape, spacing)
        seconds = time.perf_counter() - begin
        alike = np.corrcoef(np.log(field[brain]), np.log(truth[brain]))[0, 1]
        before, after, best = (
            values[white].std() / values[white].mean() for values in (image, image / field, image / truth)
        )
        print(
            f"{hospital.name:9} {name:5}  {alike:.2f}         {before:.3f}              {after:.3f}  {best:.3f}"
            f"        {seconds:5.1f}"
        )


if __name__ == "__main__":
    main()

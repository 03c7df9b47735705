"""Whether training ever waits for data: slices a second from the cache against training steps and against NIfTI.

Noise volumes of two contrasts are written as NIfTI, prepared by the product, and read back as batches in random
order, warm (in the system's cache) and cold (evicted from it before). Beside them, in the same run: the product's own
training step at the given width, and the same slices read by nibabel from the gzipped files. Each number of volumes
is measured in a fresh process, so that its memory is its own.

    python benchmarks/data.py --volumes 50 1000
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from apart import add_options, rows_of

CONTRASTS = ("T1w", "T2w")


def memory_mb(kind: str) -> float:
    """This process's memory of its own (``RssAnon``) or of mapped files (``RssFile``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"the system does not tell {kind}")


def write_cases(folder: Path, n_cases: int, shape: tuple[int, int, int]) -> list[Any]:
    """Gzipped NIfTI files of noise in a bright ball, two contrasts a case."""
    from polysite.data.case import Case
    from polysite.image import Image, write_image

    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.8).astype(np.float32)
    cases = []
    for number in range(n_cases):
        images = {}
        for contrast in CONTRASTS:
            path = folder / f"sub-{number:04d}_{contrast}.nii.gz"
            array = np.rint(ball * rng.uniform(200, 1000, shape)).astype(np.float32)
            write_image(Image(array, np.eye(4), contrast), path, dtype="int16")
            images[contrast] = path
        cases.append(Case("here", f"{number:04d}", None, images))
    return cases


def evict(paths: list[Path]) -> None:
    """Ask the system to forget files that it holds in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def slices_per_second(data: Any, n_slices: int, batch_size: int) -> float:
    """Batches as a training round takes them."""
    start = time.perf_counter()
    n = sum(
        len(batch.source)
        for batch in data.batches(np.random.default_rng(1), n_slices // batch_size, batch_size)
    )
    return n / (time.perf_counter() - start)


def step_slices_per_second(task: Any, batch: Any, repeats: int) -> float:
    """The product's training step."""
    model = task.build("here", seed=0).train()
    optimisers = task.optimisers(model)
    task.step(model, batch, optimisers)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task.step(model, batch, optimisers)
        seconds.append(time.perf_counter() - start)
    return len(batch.source) / float(np.median(seconds))


def nibabel_slices_per_second(cases: list[Any], shape: tuple[int, int, int], n: int) -> float:
    """A pair of random slices from gzipped files, as a loader without a cache reads them."""
    import nibabel

    rng = np.random.default_rng(2)
    start = time.perf_counter()
    for _ in range(n):
        case, z = cases[rng.integers(len(cases))], int(rng.integers(shape[2]))
        for path in case.images.values():
            np.asarray(nibabel.load(path).dataobj[..., z])
    return n / (time.perf_counter() - start)


def measure(n_volumes: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Everything for one number of volumes, in this process."""
    from polysite.config.base import Component
    from polysite.config.prepare import Prepare
    from polysite.config.site import Site
    from polysite.config.sources import BidsData
    from polysite.config.training import Training
    from polysite.data.prepare import prepare_site
    from polysite.tasks.synthesis import Synthesis

    size = arguments.size
    shape = (size, size, arguments.slices)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        cases = write_cases(folder, n_volumes // len(CONTRASTS), shape)
        start = time.perf_counter()
        prepared = prepare_site(cases, Prepare(), folder)
        prepare_s = (time.perf_counter() - start) / n_volumes
        start = time.perf_counter()
        prepared = prepare_site(cases, Prepare(), folder)
        again_s = (time.perf_counter() - start) / n_volumes
        task = Synthesis(
            Synthesis.Settings(image_size=size, discriminator_width=arguments.width),
            network=Component(name="pflsynth", width=arguments.width, n_blocks=arguments.blocks),
            training=Training(precision=arguments.precision),
            contrasts=CONTRASTS,
            sites={"here": Site(data=BidsData(path=Path("unused")), tasks=("T1w->T2w",))},
        )
        before = memory_mb("RssAnon")
        data = task.data("here", prepared)
        batch = next(data.batches(np.random.default_rng(0), 1, arguments.batch))
        evict([path for case in prepared for path in case.folder.glob("*.npy")])
        cold = slices_per_second(data, arguments.read, arguments.batch)
        warm = slices_per_second(data, arguments.read, arguments.batch)
        grown = memory_mb("RssAnon") - before
        return {
            "volumes": n_volumes,
            "prepare_s_per_volume": prepare_s,
            "again_s_per_volume": again_s,
            "cold_slices_per_s": cold,
            "warm_slices_per_s": warm,
            "step_slices_per_s": step_slices_per_second(task, batch, arguments.repeats),
            "nibabel_slices_per_s": nibabel_slices_per_second(cases, shape, arguments.reference),
            "grown_mb": grown,
        }


def main() -> None:
    """Measure each number of volumes in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--size", type=int, default=128, help="voxels of a slice's side")
    parser.add_argument("--slices", type=int, default=64, help="of a volume")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--read", type=int, default=4000, help="slices that are read")
    parser.add_argument("--reference", type=int, default=40, help="pairs of slices that nibabel reads")
    parser.add_argument(
        "--width", type=int, default=8, help="of both networks: the smaller, the faster the step"
    )
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--folder", type=Path, help="where the files are written: 8 MB a volume of the default size"
    )
    add_options(parser)
    arguments = parser.parse_args()
    rows = rows_of(arguments, arguments.volumes, measure)
    if not rows:
        return
    print(
        "| volumes | prepare a volume | find it prepared | slices/s from the cache: warm, cold "
        "| slices/s of a step | slices/s of nibabel on gz | memory grown |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['volumes']:.0f} | {row['prepare_s_per_volume']:.3f} s | {row['again_s_per_volume']:.4f} s "
            f"| {row['warm_slices_per_s']:.0f}, {row['cold_slices_per_s']:.0f} | {row['step_slices_per_s']:.1f} "
            f"| {row['nibabel_slices_per_s']:.1f} | {row['grown_mb']:.1f} MB |"
        )


if __name__ == "__main__":
    main()

"""Time one training step of the segmentation task, plain and with a teacher, and the augmentation of a volume.

The product's own step (``polysite.tasks.segmentation``) on a volume of noise with all classes. *With a teacher*
adds what distillation costs: a second pass without gradients on the same volume, and the losses between both.
Sizes are slices × x × y; medians are reported, and the process's peak memory so far. Run::

    python benchmarks/segmentation_step.py --threads 1 --sizes 8x64x64 10x96x96 --widths 8
    python benchmarks/segmentation_step.py --sizes 10x200x200 --widths 64 --precision bfloat16 --channels-last
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--sizes", nargs="+", default=["8x64x64", "10x96x96"])
parser.add_argument("--widths", type=int, nargs="+", default=[8])
parser.add_argument("--networks", nargs="+", default=["unet", "fedcrld"])
parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--device", default="cpu")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch starts its threads

import numpy as np  # noqa: E402
import torch  # noqa: E402

from polysite.config.base import Component  # noqa: E402
from polysite.config.site import Site  # noqa: E402
from polysite.config.sources import BidsData  # noqa: E402
from polysite.config.training import Training  # noqa: E402
from polysite.losses.distillation import distillation, feature_mse  # noqa: E402
from polysite.tasks.augment import Augment, draw, moved, recoloured  # noqa: E402
from polysite.tasks.segmentation import Segmentation  # noqa: E402
from polysite.tasks.task import Pass  # noqa: E402
from polysite.tasks.volumes import Batch  # noqa: E402


def task(network: str, width: int) -> Segmentation:
    """One site, three classes."""
    return Segmentation(
        Segmentation.Settings(),
        network=Component(name=network, width=width),
        training=Training(precision=options.precision, channels_last=options.channels_last),
        contrasts=("ED",),
        sites={"here": Site(data=BidsData(path=Path("unused")), labels={"LV": 1, "MYO": 2, "RV": 3})},
        device=options.device,
    )


def seconds(step: Callable[[], object]) -> float:
    """The median of the repeats, after one that is not counted."""
    found = []
    for _ in range(options.repeats + 1):
        begin = time.perf_counter()
        step()
        if options.device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return statistics.median(found[1:])


def steps(network: str, width: int, size: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """A plain step and one with a teacher."""
    segmentation = task(network, width)
    model = segmentation.build("here", seed=0)
    optimisers = segmentation.optimisers(model)
    stream = torch.Generator().manual_seed(1)
    batch = Batch(
        torch.randn(1, 1, *size, generator=stream),
        torch.randint(4, (1, *size), generator=stream),
        None,
        "LV-MYO-RV",
    )
    teacher = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def guide(look: Pass) -> torch.Tensor:
        other = look.again(teacher)
        loss = 0.2 * distillation(look.output.logits, other.logits)
        return loss + sum(
            feature_mse(look.output.features[name], features) for name, features in other.features.items()
        )

    return {
        "plain": lambda: segmentation.step(model, [batch], optimisers),
        "with a teacher": lambda: segmentation.step(model, [batch], optimisers, guide=guide),
    }


def augmentation(size: tuple[int, int, int]) -> Callable[[], object]:
    """Every change of the default settings at once."""
    stream, how = np.random.default_rng(0), Augment(mirror=1, rotation=1, scale=1, elastic=1)
    image, labels = stream.normal(size=size).astype(np.float32), stream.integers(4, size=size)

    def change() -> object:
        drawn = draw(how, stream)
        return recoloured(moved(image, labels, drawn, how)[0], drawn, how)

    return change


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.device}, {options.precision}\n\n"
        "| volume | network | width | s a step | s with a teacher | GiB at most |\n|---|---|---|---|---|---|"
    )
    for text in options.sizes:
        z, x, y = (int(part) for part in text.split("x"))
        for width in options.widths:
            for network in options.networks:
                cost = {name: seconds(step) for name, step in steps(network, width, (z, x, y)).items()}
                memory = (
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
                    if options.device == "cpu"
                    else torch.cuda.max_memory_allocated() / 2**30
                )
                print(
                    f"| {z}×{x}×{y} | {network} | {width} | {cost['plain']:.3f} | {cost['with a teacher']:.3f} "
                    f"| {memory:.2f} |",
                    flush=True,
                )
        print(f"| {z}×{x}×{y} | augmentation | | {seconds(augmentation((z, x, y))):.4f} | | |")


if __name__ == "__main__":
    main()

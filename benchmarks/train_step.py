"""Time one training step (generator and discriminator) at full size, as a fraction of this machine's peak.

The product's own step (``polysite.tasks.synthesis``) in float32 and bfloat16 autocast stands beside the plain
float32 eager step: the same networks with torch's own layers and Adam. All run in turn within the same
seconds, so that their ratios hold on a machine that others use too; medians are reported. The peak is the
rate of one 3×3 convolution of 256 channels, the shape that most of the network's work has, measured in
between. Run::

    python benchmarks/train_step.py --threads 2 --repeats 7
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--repeats", type=int, default=5, help="timed rounds of every variant")
parser.add_argument("--sizes", type=int, nargs="+", default=[256, 128])
parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--blocks", type=int, default=9)
parser.add_argument("--dropout", type=float, default=0.5)
parser.add_argument("--compile", action="store_true", help="also time the compiled bfloat16 step")
parser.add_argument("--channels-last", action="store_true", help="also time bfloat16 with channels last")
parser.add_argument("--json", type=Path, help="write the figures to this file")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch starts its threads

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from plain import PlainGenerator  # noqa: E402
from polysite.config.base import Component  # noqa: E402
from polysite.config.site import Site  # noqa: E402
from polysite.config.sources import BidsData  # noqa: E402
from polysite.config.training import Training  # noqa: E402
from polysite.tasks.slices import Batch  # noqa: E402
from polysite.tasks.synthesis import Synthesis, SynthesisModel  # noqa: E402

TASK = "T1w->T2w"
LOSSES = ("generator", "adversarial", "l1", "discriminator")
Step = Callable[[], dict[str, float]]


@dataclass
class Figure:
    """One variant at one size."""

    size: int
    batch: int
    variant: str
    seconds: float
    gflop_per_s: float
    of_peak: float
    times_as_fast: float
    first_losses: dict[str, float]


def network(dropout: float) -> Component:
    """The full-size generator."""
    return Component(name="pflsynth", width=options.width, n_blocks=options.blocks, dropout=dropout)


def task(precision: str, dropout: float, **training: bool) -> Synthesis:
    """One site, one task."""
    return Synthesis(
        Synthesis.Settings(discriminator_width=options.width),
        network=network(dropout),
        training=Training(precision=precision, **training),
        contrasts=("T1w", "T2w", "PDw", "FLAIR"),
        sites={"here": Site(data=BidsData(path=Path("unused")), tasks=(TASK,))},
    )


def noise(batch: int, size: int) -> Batch:
    """A batch of noise slices."""
    stream = torch.Generator().manual_seed(1)
    source, target = (torch.rand(batch, 1, size, size, generator=stream) * 2 - 1 for _ in range(2))
    zero = torch.zeros(batch, dtype=torch.int64)
    return Batch(source, target, site=zero, source_contrast=zero, target_contrast=zero + 1)


def product_step(precision: str, batch: Batch, dropout: float, **training: bool) -> Step:
    """The step that ``polysite train`` takes."""
    synthesis = task(precision, dropout, **training)
    model = synthesis.build("here", seed=0)
    model.train()
    optimisers = synthesis.optimisers(model)
    return lambda: {name: float(value) for name, value in synthesis.step(model, batch, optimisers).items()}


def plain_step(batch: Batch, dropout: float) -> Step:
    """The same step with the literal generator, written as one would first write it."""
    synthesis = task("float32", dropout)
    start = synthesis.build("here", seed=0)
    generator = PlainGenerator(start.generator.settings, n_sites=1, n_contrasts=4)
    generator.load_state_dict(start.generator.state_dict())
    model = SynthesisModel(generator, dict(start.discriminators)).train()
    judge = model.discriminators["T1w-T2w"]
    adam = {
        name: torch.optim.Adam(part.parameters(), 2e-4, (0.5, 0.999))
        for name, part in model.networks().items()
    }

    def descend(loss: torch.Tensor, name: str) -> None:
        adam[name].zero_grad()
        loss.backward()
        adam[name].step()

    def step() -> dict[str, float]:
        fake = generator(batch.source, batch.site, batch.source_contrast, batch.target_contrast)
        false, true = judge(batch.source, fake.detach()), judge(batch.source, batch.target)
        discriminator_loss = 0.5 * (false.square().mean() + (true - 1).square().mean())
        descend(discriminator_loss, "discriminators.T1w-T2w")
        adversarial_loss = (judge(batch.source, fake) - 1).square().mean()
        l1_loss = (fake - batch.target).abs().mean()
        generator_loss = adversarial_loss + 100 * l1_loss
        descend(generator_loss, "generator")
        return dict(
            zip(
                LOSSES,
                map(float, (generator_loss, adversarial_loss, l1_loss, discriminator_loss)),
                strict=True,
            )
        )

    return step


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a 3×3 convolution of 256 channels on 64×64, the best of a few."""
    x, weight = torch.rand(1, 256, 66, 66).to(dtype), torch.rand(256, 256, 3, 3).to(dtype)
    seconds = []
    for _ in range(8):
        begin = time.perf_counter()
        F.conv2d(x, weight)
        seconds.append(time.perf_counter() - begin)
    return 2 * 256 * 256 * 9 * 64 * 64 / min(seconds) / 1e9


def gflop(step: Step) -> float:
    """Billions of multiplications and additions of one step's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops()) / 1e9


def timed(step: Step) -> float:
    """Seconds of one step."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def measure(size: int, batch_size: int) -> list[Figure]:
    """All variants at one size, in turn."""
    batch = noise(batch_size, size)
    steps = {
        "plain float32": plain_step(batch, options.dropout),
        "float32": product_step("float32", batch, options.dropout),
        "bfloat16": product_step("bfloat16", batch, options.dropout),
    }
    if options.channels_last:
        steps["bfloat16, channels last"] = product_step(
            "bfloat16", batch, options.dropout, channels_last=True
        )
    if options.compile:
        steps["bfloat16, compiled"] = product_step("bfloat16", batch, options.dropout, compile=True)
    work = {
        name: gflop(steps[name]) for name in ("plain float32", "float32")
    }  # the product freezes the judge
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(options.repeats):
        for name, step in steps.items():
            seconds[name].append(timed(step))
        for dtype, values in peaks.items():
            values.append(peak(dtype))
    losses = first_losses(batch, steps)
    figures = []
    for name, values in seconds.items():
        rate = work.get(name, work["float32"]) / statistics.median(values)
        limit = statistics.median(peaks[torch.bfloat16 if "bfloat16" in name else torch.float32])
        ratios = [a / b for a, b in zip(seconds["plain float32"], values, strict=True)]
        figures.append(
            Figure(
                size,
                batch_size,
                name,
                statistics.median(values),
                rate,
                rate / limit,
                statistics.median(ratios),
                losses.get(name, {}),
            )
        )
    return figures


def first_losses(batch: Batch, steps: dict[str, Step]) -> dict[str, dict[str, float]]:
    """The losses of the very first step from the same weights, without dropout: they must agree."""
    return {
        name: (
            plain_step(batch, 0.0)
            if name == "plain float32"
            else product_step(name.split(",")[0], batch, 0.0)
        )()
        for name in steps
        if "," not in name
    }


def table(figures: list[Figure]) -> str:
    """Markdown."""
    lines = [
        "| input | variant | s a step | GFLOP/s | of peak | times plain | first L1 | first D loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        losses = figure.first_losses
        shown = [f"{losses[key]:.5f}" if losses else "" for key in ("l1", "discriminator")]
        lines.append(
            f"| {figure.batch}×{figure.size}×{figure.size} | {figure.variant} | {figure.seconds:.3f} "
            f"| {figure.gflop_per_s:.0f} | {figure.of_peak:.0%} | {figure.times_as_fast:.2f} | {' | '.join(shown)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store."""
    torch.set_num_threads(options.threads)
    figures = [
        figure for size in options.sizes for batch in options.batches for figure in measure(size, batch)
    ]
    rates = {
        str(dtype).removeprefix("torch."): round(peak(dtype)) for dtype in (torch.float32, torch.bfloat16)
    }
    print(f"torch {torch.__version__}, {options.threads} threads, convolution peak now {rates} GFLOP/s\n")
    print(table(figures))
    if options.json:
        content = {
            "threads": options.threads,
            "torch": torch.__version__,
            "figures": [asdict(f) for f in figures],
        }
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()

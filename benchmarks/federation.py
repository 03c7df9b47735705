"""What the engine `here` costs beside the sites' own work, and whether memory grows with the number of sites.

Full-size pFLSynth networks (generator and two discriminators a site: 86 MB of weights, 258 MB of state), random
images, a few steps a round. For each number of sites a fresh process; overhead = wall time minus site compute.
The overhead's processor time (of the thread that trains) is given too: on a busy machine only that means something.

    python benchmarks/federation.py --sites 4 64
"""

import argparse
import functools
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from apart import add_options, rows_of


def random_case(size: int, n_slices: int, contrasts: tuple[str, ...]) -> Any:
    """Something that looks like a prepared case and holds noise."""
    rng = np.random.default_rng(0)
    volumes = {name: rng.uniform(-1, 1, (n_slices, size, size)).astype(np.float16) for name in contrasts}
    return SimpleNamespace(
        key="sub-01",
        subject="01",
        session=None,
        contrasts=contrasts,
        slices=volumes.__getitem__,
        mask=lambda: np.ones((n_slices, size, size), dtype=bool),
    )


def timed(owner: Any, name: str) -> list[float]:
    """Seconds that each call of a function takes from now on."""
    function, seconds = getattr(owner, name), []

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = function(*given, **named)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(owner, name, call)
    return seconds


def measure(n_sites: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Run a federation in this process."""
    import torch

    from polysite import recipe
    from polysite.algorithms.mean import WeightedMean
    from polysite.engines.here import Here
    from polysite.federation.crew import assemble
    from polysite.federation.saver import Saver, saving
    from polysite.federation.server import federate
    from polysite.federation.store import Store

    parts = {
        "reading": timed(Store, "load_in_place"),
        "copying": timed(Saver, "save"),
        "averaging": timed(WeightedMean, "add"),
    }

    data = {"format": "bids", "path": "unused"}
    run = recipe.build(
        {
            "name": "benchmark",
            "contrasts": ["T1w", "T2w"],
            "sites": {f"site{k}": {"data": data, "tasks": ["T1w->T2w", "T2w->T1w"]} for k in range(n_sites)},
            "task": {
                "name": "synthesis",
                "image_size": arguments.size,
                "discriminator_width": arguments.width,
            },
            "network": {"name": "pflsynth", "width": arguments.width},
            "training": {
                "rounds": arguments.rounds,
                "steps_per_round": arguments.steps,
                "precision": "bfloat16",
                "validate_every": 0,
            },
        }
    )
    case = random_case(arguments.size, 8, ("T1w", "T2w"))
    cases = {name: {"train": [case]} for name in run.sites}
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, saving() as saver:
        crew = assemble(run, cases, Path(folder), saver)
        engine = Here(Here.Settings(threads=arguments.threads), crew)
        fit, spent = crew.task.fit, [0.0]

        def clocked(*given: Any, **named: Any) -> dict[str, float]:
            begun = time.thread_time()
            losses = fit(*given, **named)
            spent[0] += time.thread_time() - begun
            return losses

        crew.task.fit = clocked
        carried: list[float] = []
        visit = engine.visit

        def noted(round_: int, *given: Any) -> Any:
            for message in visit(round_, *given):
                if round_ > 0:
                    carried.append(message.facts["carried_seconds"])
                yield message

        engine.visit = noted  # type: ignore[method-assign]

        def emit(event: dict[str, Any]) -> None:
            if event["event"] == "round":
                rounds.append({**event, "cpu": time.thread_time() - spent[0]})

        start = time.perf_counter()
        federate(crew, engine, emit)
        total = time.perf_counter() - start
    warm = rounds[1:]  # the first round builds networks and optimisers
    cpu = float(np.median([late["cpu"] - early["cpu"] for early, late in pairwise(rounds)]))
    overhead = float(np.median([event["overhead_seconds"] for event in warm]))
    compute = float(np.median([event["seconds"] - event["overhead_seconds"] for event in warm]))
    return {
        "sites": n_sites,
        "threads": torch.get_num_threads(),
        "compute_s_per_site": compute / n_sites,
        "overhead_s_per_site": overhead / n_sites,
        "overhead_cpu_s_per_site": cpu / n_sites,
        "carried_s_median": float(np.median(carried)),
        "carried_s_least": min(carried),
        **{f"{name}_s": float(np.median(seconds)) if seconds else 0.0 for name, seconds in parts.items()},
        "overhead_percent": 100 * overhead / compute,
        "wall_s": total,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure each number of sites in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64, help="of both networks; smaller ones need less disk")
    parser.add_argument("--folder", type=Path, default=None, help="where the states are kept; 0.6 GB a site")
    add_options(parser)
    arguments = parser.parse_args()
    rows = rows_of(arguments, arguments.sites, measure)
    if not rows:
        return
    print(
        "| sites | compute a site | overhead a site | overhead | its processor time "
        "| of it in and out of a site: median, least | of that reading, copying, averaging | peak memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['sites']:.0f} | {row['compute_s_per_site']:.2f} s | {row['overhead_s_per_site']:.3f} s "
            f"| {row['overhead_percent']:.1f} % | {row['overhead_cpu_s_per_site']:.3f} s "
            f"| {row['carried_s_median']:.3f} s, {row['carried_s_least']:.3f} s "
            f"| {row['reading_s']:.3f} s, {row['copying_s']:.3f} s, {row['averaging_s']:.3f} s "
            f"| {row['peak_memory_mb']:.0f} MB |"
        )


if __name__ == "__main__":
    main()

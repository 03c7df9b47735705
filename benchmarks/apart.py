"""Each case of a benchmark in a process of its own, so that its memory and its threads are its own."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`rows_of` reads."""
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)


def rows_of(
    arguments: argparse.Namespace, cases: Sequence[int], measure: Callable[[int, Any], Row]
) -> list[Row]:
    """A row for each case, measured by this script called again; none where the caller has nothing left to print.

    Parameters
    ----------
    cases : sequence of int
        What is varied: sites, volumes.
    measure : callable
        Measures one case in this process.
    """
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments)))
        return []
    rows = []
    for case in cases:
        done = subprocess.run(
            [sys.executable, *sys.argv, "--one", str(case)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
        )
        rows.append(json.loads(done.stdout))
    if arguments.json:
        print("\n".join(json.dumps(row) for row in rows))
        return []
    return rows

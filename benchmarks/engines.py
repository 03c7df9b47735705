"""What a federation's engine costs without any training: several engines side by side, each doing the same job.

The job: an array of float32 goes to every site, every site adds 1, the server averages; five times. Measured from
outside, in the same way for all, by what the sites note (`jobs/work.py`) and by sampling all processes' memory:

* **first step**: from the start of the commands to the first work at any site;
* **overhead a round**: from a round's first work to the next one's, less the time in which any site works: sending,
  receiving, averaging and storing; the median of the warm rounds, which are all but the first and, as nothing comes
  after it, the last;
* **memory**: peaks of the server's processes together, of the largest site's, and of everything, sampled every 0.2 s;
  a page of a file or of shared memory counts once over all processes that have it;
* **end**: from the last work at a site until no process is left.

Every site notes what arrived: a run whose averages are wrong fails. How each engine is set up, and why, is said in
the file of its name in `jobs/`. An engine whose package is missing is left out with a line that says how to get it;
another interpreter can be named for each:

    python benchmarks/engines.py --python flower=/path/to/venv/bin/python

Case after case prints its row at once; below the table stand the ratios that the goals are about.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from subprocess import CalledProcessError, run
from typing import Any

from jobs import flower_commands, nvflare_commands, polysite_commands
from jobs.job import Case, Engine
from jobs.measure import Failed, Row, measure

ENGINES: dict[str, Engine] = {
    **polysite_commands.ENGINES,
    **nvflare_commands.ENGINES,
    **flower_commands.ENGINES,
}
UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
HEAD = (
    "| engine | sites | payload | first step | overhead a round (least–most) "
    "| server's memory | a site's | all | end |\n|---|---|---|---|---|---|---|---|---|"
)


def size(text: str) -> int:
    """Bytes of `20kB`."""
    for unit in sorted(UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text and number.isdigit() and int(number) * UNITS[unit] >= 4:
            return int(number) * UNITS[unit]
    raise argparse.ArgumentTypeError(f"{text!r}: write a number and a unit, for example 20kB or 100MB")


def shown(bytes_: int) -> str:
    """A payload as it was given."""
    unit = next(unit for unit in reversed(UNITS) if not bytes_ % UNITS[unit])
    return f"{bytes_ // UNITS[unit]} {unit}"


def interpreter(text: str) -> tuple[str, str]:
    """Engine and path of `ENGINE=PATH`."""
    name, separator, path = text.partition("=")
    if name not in ENGINES or not separator or not shutil.which(path):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write ENGINE=PYTHON with a program that exists and one of: {', '.join(ENGINES)}"
        )
    return name, path


def line(engine: Engine, case: Case, row: Row) -> str:
    """A row of the table."""
    site = f"{row.site / 1e6:.0f} MB" if row.site else "in the server's"
    return (
        f"| {engine.title} | {case.n_sites} | {shown(case.n_bytes)} | {row.first_step:.1f} s "
        f"| {row.overhead:.3f} s ({min(row.overheads):.3f}–{max(row.overheads):.3f}) "
        f"| {row.server / 1e6:.0f} MB | {site} | {row.all / 1e6:.0f} MB | {row.end:.1f} s |"
    )


RIVALS = {"nvflare": "with mutual TLS", "nvflare-as-it-comes": "with mutual TLS, as it comes"}
"""Engines that Polysite's across hospitals is compared with."""


def verdicts(rows: dict[tuple[str, int, int], Row]) -> list[str]:
    """What the figures say of the goals, where those that are compared were measured."""
    said = []
    for (name, n_sites, n_bytes), row in rows.items():
        what = f"{ENGINES[name].title}, {shown(n_bytes)}"
        for rival, called in RIVALS.items() if name == "across" else ():
            if other := rows.get((rival, n_sites, n_bytes)):
                ratio = row.overhead / other.overhead
                said.append(
                    f"* {what}, {n_sites} sites: {ratio:.2f} of the overhead of NVFlare's recipe {called}"
                )
        fewest = min(sites for other, sites, size_ in rows if (other, size_) == (name, n_bytes))
        if n_sites > fewest:
            growth = row.server / rows[name, fewest, n_bytes].server
            said.append(
                f"* {what}: {growth:.2f} times the server's memory with {n_sites} sites as with {fewest}"
            )
    return said


def version(python: str, package: str) -> str | None:
    """Of a package that an interpreter has."""
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    done = run([python, "-c", asked], check=False, capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="ENGINE")
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--payloads", type=size, nargs="+", default=[size("20kB"), size("100MB")])
    parser.add_argument("--rounds", type=int, default=5, help="at least 3; all but the first are warm")
    parser.add_argument("--python", type=interpreter, action="append", default=[], metavar="ENGINE=PYTHON")
    parser.add_argument("--folder", type=Path, help="where everything is kept meanwhile: 10 GB")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all cases, to read the logs")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a case is given up")
    parser.add_argument("--memory", type=size, default=size("20GB"), help="at which a case is given up")
    arguments = parser.parse_args()
    if arguments.rounds < 3 or min(arguments.sites) < 1:
        parser.error("--rounds must be 3 or more, --sites 1 or more")
    if arguments.folder and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder}: there is no such folder")
    return arguments


def main() -> int:
    """Measure all cases one after another and print each row at once."""
    arguments = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: end what was started
    pythons: dict[str, str] = dict(arguments.python)
    status, rows, versions = 0, dict[tuple[str, int, int], Row](), dict[str, str]()
    print(HEAD, flush=True)
    for name in arguments.engines:
        engine, python = ENGINES[name], pythons.get(name, sys.executable)
        if (found := version(python, engine.package)) is None:
            print(f"{name}: left out, {python} has no {engine.package}: {engine.install}", file=sys.stderr)
            continue
        versions[engine.package] = found
        for n_bytes in arguments.payloads:
            for n_sites in arguments.sites:
                row = one(engine, python, n_sites, n_bytes, arguments)
                if row is None:
                    status = 1
                else:
                    rows[name, n_sites, n_bytes] = row
    used = ", ".join(f"{package} {number}" for package, number in versions.items())
    print("", f"{used}; {len(os.sched_getaffinity(0))} processors; {arguments.rounds} rounds", sep="\n")
    print("", *verdicts(rows), sep="\n")
    return status


def one(engine: Engine, python: str, n_sites: int, n_bytes: int, arguments: Any) -> Row | None:
    """Measure a case and print its row; None if it failed."""
    folder = Path(tempfile.mkdtemp(prefix="engines-", dir=arguments.folder)).absolute()
    case = Case(n_sites, n_bytes, arguments.rounds, folder, python)
    case.notes.mkdir()
    try:
        row = measure(case, engine.prepare(case), arguments.limit, arguments.memory)
        print(line(engine, case, row), flush=True)
        return row
    except (Failed, CalledProcessError) as failed:
        words = str(failed).replace("|", "/")
        print(f"| {engine.title} | {n_sites} | {shown(n_bytes)} | {words} | | | | | |", flush=True)
        return None
    finally:
        if arguments.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; every process that was started has ended")

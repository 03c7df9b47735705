"""The benchmark of engines does the job, says when one does not, and leaves no process behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "engines.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/smaps_rollup").exists(), reason="reads memory from Linux's /proc"
    ),
]


def measured(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A small case of one engine."""
    small = ("--sites", "2", "--payloads", "20kB", "--rounds", "3", "--folder", str(folder))
    return subprocess.run(
        [sys.executable, SCRIPT, *small, *options], capture_output=True, text=True, timeout=200, check=False
    )


def marked() -> set[str]:
    """Processes that a benchmark started, be it another one."""
    found = set()
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and b"ENGINES_BENCHMARK=" in Path(entry, "environ").read_bytes():
                found.add(entry.name)
        except OSError:
            continue
    return found


def test_a_row_for_each_engine(tmp_path: Path) -> None:
    before = marked()
    done = measured(tmp_path, "--engines", "here", "processes")
    assert done.returncode == 0, done.stderr
    here, processes = (line.split("|") for line in done.stdout.splitlines() if "20 kB |" in line)
    assert "in the server's" in here[7]
    assert processes[7].endswith("MB ")
    assert not list(tmp_path.iterdir())
    assert marked() <= before


def test_a_case_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    before = marked()
    done = measured(tmp_path, "--engines", "processes", "--limit", "2")
    assert done.returncode == 1
    assert "not done after 2 s" in done.stdout
    assert not list(tmp_path.iterdir())
    assert marked() <= before

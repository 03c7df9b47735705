"""What the system can do to a training: a full disk and Ctrl-C."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import files, well

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_file_that_cannot_grow_is_named_and_earlier_rounds_stay(clinic, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails half-way in both."""
    done = subprocess.run(
        [sys.executable, "-m", "polysite", "train", clinic / "run.yaml", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [name for name in files(tmp_path) if ".tmp" in name]
    well("train", "--resume", tmp_path / "run")


@pytest.mark.parametrize("engine", ["here", "processes"])
def test_ctrl_c_ends_a_training_and_all_that_it_started(clinic, tmp_path, engine):
    options = ["--set", "training.rounds=100000", "--set", f"engine={{name: {engine}, threads: 1}}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "polysite", "train", clinic / "run.yaml", "--out", tmp_path / "run", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run/server/store/round-000001").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        started = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert f"polysite: stopped; go on with: polysite train --resume {tmp_path / 'run'}" in err
    assert "Traceback" not in err
    assert bool(started) == (engine == "processes")
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not [name for name in files(tmp_path) if ".tmp" in name]


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [
        int(found)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for found in (task / "children").read_text().split()
    ]

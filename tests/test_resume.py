"""``kill -9`` at any moment, then ``--resume``: the same bytes as a run that nobody disturbed."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polysite import recipe
from polysite.run import create, train
from small_runs import digests, polysite, small_raw, start

KILLER = """
import atexit, os, signal, sys

role, _, last = os.environ.get("POLYSITE_TEST_KILL", ":0").partition(":")
calls = 0


def counted(name):
    real = getattr(os, name)

    def call(*given, **named):
        global calls
        calls += 1
        if calls == int(last):
            file = f"/proc/self/fd/{given[0]}"
            if name == "fsync" and os.path.isfile(file):  # not all of it had reached the disk
                os.truncate(file, os.path.getsize(file) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    setattr(os, name, call)


if role == ("worker" if "polysite.worker" in sys.orig_argv else "train"):
    for name in ("fsync", "rename", "replace", "unlink", "rmdir"):
        counted(name)
    if not int(last):
        atexit.register(lambda: open(os.environ["POLYSITE_TEST_COUNT"], "w").write(str(calls)))
"""
"""Runs when Python starts, in the command or in its workers: kills at the n-th file operation, or counts them."""

ENGINES: dict[str, dict[str, Any]] = {
    "here": {"name": "here", "threads": 1},
    "processes": {"name": "processes", "workers": 2, "threads": 1},
}
N_SITES, ROUNDS = 3, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    (folder / "killer").mkdir()
    (folder / "killer" / "sitecustomize.py").write_text(KILLER)
    return folder


@pytest.fixture(scope="module")
def fresh(data: Path) -> Callable[[str], Path]:
    """Makes a run folder in which nothing has been trained."""

    def make(engine: str) -> Path:
        folder = data / f"run-{len(list(data.glob('run-*')))}"
        raw = small_raw(data, training={"rounds": ROUNDS, "steps_per_round": 3}, engine=ENGINES[engine])
        create(recipe.build(raw), folder)
        return folder

    return make


@pytest.fixture(scope="module")
def undisturbed(fresh: Callable[[str], Path]) -> dict[str, str]:
    """Digests of all final models and stores."""
    folder = fresh("here")
    train(folder)
    return digests(folder, "*.safetensors")


def n_done(folder: Path) -> int:
    """How often a site has finished a round."""
    path = folder / "events.jsonl"
    return path.read_text().count('"event": "site"') if path.exists() else 0


def kill_when(folder: Path, n_rounds_of_sites: int, delay_s: float) -> int:
    """Train, and kill a moment after so many sites have finished a round; the exit status."""
    process = start("train", "--resume", folder)
    before = n_done(folder)
    while process.poll() is None and n_done(folder) - before < n_rounds_of_sites:
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    return process.returncode


def kill_at(folder: Path, data: Path, role: str, n: int) -> int:
    """Train, and kill the command or a worker at its n-th file operation; the command's exit status."""
    return polysite(
        *("train", "--resume", folder),
        POLYSITE_TEST_KILL=f"{role}:{n}",
        POLYSITE_TEST_COUNT=str(data / "count"),
        PYTHONPATH=str(data / "killer"),
    ).returncode


def finish(folder: Path, undisturbed: dict[str, str]) -> None:
    done = polysite("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert digests(folder, "*.safetensors") == undisturbed
    assert not list(folder.rglob(".tmp-*"))
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "end"
    assert {(e["round"], e["site"]) for e in events if e["event"] == "site"} == {
        (round_, site) for round_ in range(ROUNDS) for site in ("north", "south", "west")
    }
    shutil.rmtree(folder)


def moments(engine: str, n: int) -> list[tuple[int, float]]:
    """Seeded moments of a run: sites that have finished a round, and seconds after that."""
    stream = random.Random(f"moments of {engine}")
    return [(stream.randrange(N_SITES * ROUNDS), stream.uniform(0, 0.2)) for _ in range(n)]


def few(values: list[Any], n_default: int) -> list[Any]:
    """All values, those after the first ones marked as slow."""
    return [
        *values[:n_default],
        *[pytest.param(value, marks=pytest.mark.slow) for value in values[n_default:]],
    ]


@pytest.mark.parametrize("moment", few(moments("processes", 6), 1))
def test_killed_with_workers_at_a_random_moment(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], moment: tuple[int, float]
) -> None:
    folder = fresh("processes")
    assert kill_when(folder, *moment) == -9
    finish(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", moments("here", 6))
def test_killed_at_a_random_moment(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], moment: tuple[int, float]
) -> None:
    folder = fresh("here")
    assert kill_when(folder, *moment) == -9
    finish(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(ENGINES))
def test_killed_again_and_again(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], engine: str
) -> None:
    folder = fresh(engine)
    for _, delay_s in moments(engine, 4):
        assert kill_when(folder, 1, delay_s) == -9
    finish(folder, undisturbed)


# one operation in the default run: the 24th is the flush of a file of the second site's first version
@pytest.mark.parametrize("n", few([24, *random.Random("operations").sample(range(1, 115), 9)], 1))
def test_killed_inside_a_checkpoints_write(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], data: Path, n: int
) -> None:
    folder = fresh("here")
    assert kill_at(folder, data, "train", n) == -9
    finish(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("n", random.Random("workers").sample(range(1, 30), 4))
def test_a_worker_killed_inside_a_checkpoints_write(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], data: Path, n: int
) -> None:
    folder = fresh("processes")
    assert kill_at(folder, data, "worker", n) == 1
    finish(folder, undisturbed)


@pytest.mark.slow
def test_the_killer_reaches_all_of_a_run(
    fresh: Callable[[str], Path], undisturbed: dict[str, str], data: Path
) -> None:
    folder = fresh("here")
    assert kill_at(folder, data, "train", 0) == 0
    assert int((data / "count").read_text()) >= 115
    finish(folder, undisturbed)

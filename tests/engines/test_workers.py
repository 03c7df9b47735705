"""What a worker owes: its threads, a clean channel, clear words when it fails, and no life after its parent."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polysite import recipe
from polysite.errors import PolysiteError
from polysite.federation.store import Store
from polysite.run import create, open_run, train
from small_runs import polysite, small_raw, start, write_run

PLUG = '''
"""A synthesis task that misbehaves at one site, found by its entry point as any other package's."""
import os, time
import torch
from polysite.errors import PolysiteError
from polysite.tasks.synthesis import Synthesis

class Troubled(Synthesis):
    class Settings(Synthesis.Settings):
        trouble: str = "none"
        notes: str = ""

    def fit(self, model, data, *rest, **how):
        with open(f"{self.settings.notes}/{os.getpid()}", "a") as file:
            file.write(f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']}\\n")
        if data.site == "south":
            trouble = self.settings.trouble
            if trouble == "user":
                raise PolysiteError("south: something that a user can mend")
            if trouble == "fault":
                raise ValueError("an odd\\nvalue")
            if trouble == "death":
                os._exit(3)
            if trouble == "noise":
                print("from Python")
                os.write(1, b"from below")
            if trouble == "long":
                time.sleep(600)
        return super().fit(model, data, *rest, **how)

    def data(self, site, cases):
        samples = super().data(site, cases)
        samples.site = site
        return samples
'''
Troubled = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture
def troubled(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Troubled:
    """Makes run folders whose site `south` has a trouble; notes of the workers lie in `notes`."""
    package = tmp_path / "package"
    (package / "plug-1.dist-info").mkdir(parents=True)
    (package / "plug.py").write_text(PLUG)
    (package / "plug-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (package / "plug-1.dist-info" / "entry_points.txt").write_text(
        "[polysite.tasks]\ntroubled = plug:Troubled\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.syspath_prepend(package)
    (tmp_path / "notes").mkdir()

    def make(trouble: str, **engine: Any) -> Path:
        raw = small_raw(
            data,
            task={"trouble": trouble, "notes": str(tmp_path / "notes")},
            training={"rounds": 1, "steps_per_round": 1},
            engine={"name": "processes", "workers": 2, **engine},
        )
        raw["task"]["name"] = "troubled"
        folder = tmp_path / "run"
        create(recipe.build(raw), folder)
        write_run(tmp_path / "run.yaml", raw)
        return folder

    yield make
    sys.modules.pop("plug", None)


def notes(folder: Path) -> dict[int, list[str]]:
    """Process -> a line a visit."""
    return {int(path.name): path.read_text().splitlines() for path in (folder.parent / "notes").iterdir()}


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_worker_has_the_threads_that_were_asked_for(troubled: Troubled, threads: int) -> None:
    folder = troubled("none", threads=threads)
    train(folder)
    seen = notes(folder)
    assert 1 <= len(seen) <= 2
    assert os.getpid() not in seen
    assert [line for lines in seen.values() for line in lines] == [f"{threads} {threads}"] * 3


def test_each_worker_computes_on_its_own_device(troubled: Troubled) -> None:
    """As many workers as devices; that the second one's is not there is said by its name."""
    folder = troubled("none", workers=None, devices=["cpu", "cuda:9"])
    with pytest.raises(PolysiteError, match="device: 'cuda:9' is not on this machine"):
        train(folder)
    assert Store(folder / "server" / "store", "").versions() == [0]


def test_what_a_library_prints_does_not_get_between_the_answers(
    troubled: Troubled, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = troubled("noise")
    train(folder)
    assert (folder / "sites" / "south" / "model.safetensors").exists()
    printed = capfd.readouterr().err
    assert "from Python" in printed
    assert "from below" in printed


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        pytest.param("user", r"^south: something that a user can mend$", marks=pytest.mark.slow),
        pytest.param(
            "fault",
            r"^south: round 0 failed in its worker: ValueError: an odd value \(.*plug\.py:\d+\)",
            marks=pytest.mark.slow,
        ),
        ("death", r"^south: the worker ended with status 3 in round 0"),
    ],
)
def test_a_failure_in_a_worker_is_one_clear_message(troubled: Troubled, trouble: str, message: str) -> None:
    folder = troubled(trouble)
    with pytest.raises(PolysiteError, match=message) as caught:
        train(folder)
    assert "\n" not in str(caught.value)
    wait_until(lambda: not any(map(alive, notes(folder))))
    assert not list(folder.rglob(".tmp-*"))


def test_a_fault_in_a_worker_ends_the_command_with_one_line(troubled: Troubled) -> None:
    folder = troubled("fault")
    done = polysite("train", "--resume", folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "polysite: south: round 0 failed in its worker: ValueError"
    )
    assert "Traceback" not in done.stderr


def running(troubled: Troubled) -> tuple[Path, subprocess.Popen[str]]:
    """A training whose workers are in the middle of a site's long round."""
    folder = troubled("long", workers=1)
    process = start("train", "--resume", folder)
    store = Store(folder / "sites" / "north" / "store", "")
    wait_until(lambda: store.versions() == [1] and len(next(iter(notes(folder).values()))) == 2)
    return folder, process


def test_ctrl_c_stops_workers_in_the_middle_of_a_round(troubled: Troubled) -> None:
    folder, process = running(troubled)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    assert process.returncode == 130
    assert re.search(
        rf"polysite: stopped; go on with: polysite train --resume {re.escape(str(folder))}\n$", err
    )
    assert "Traceback" not in err
    assert not any(map(alive, notes(folder)))
    assert not list(folder.rglob(".tmp-*"))


def test_workers_do_not_outlive_a_parent_that_was_killed(troubled: Troubled) -> None:
    folder, process = running(troubled)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(alive, notes(folder))), seconds=5)
    assert open_run(folder).name == "small"


def test_a_worker_whose_parent_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    """Its requests may still lie in the pipe."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "polysite.worker", str(tmp_path)),
            *("--threads", "1", "--device", "cpu", "--parent", str(gone.pid)),
        ],
        stdin=subprocess.PIPE,
    )
    assert worker.wait(timeout=20) == 1
    assert worker.stdin is not None
    worker.stdin.close()

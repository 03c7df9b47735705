"""Registry, seeds, events and the lock of a run folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from polysite.errors import CheckpointError, ConfigError
from polysite.events import EventLog
from polysite.lock import locked
from polysite.registry import TABLES, lookup
from polysite.seeds import derive, numpy_stream, torch_stream


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_every_registered_name_can_be_imported(kind: str, name: str) -> None:
    found = lookup(kind, name)
    assert found.name == name if kind == "datasets" else callable(found)


def test_a_wrong_name_lists_the_choices() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'fedavgg'.*did you mean 'fedavg'.*central, ditto, fedavg, .*local, moon, pflsynth",
    ):
        lookup("algorithms", "fedavgg")


def test_streams_depend_on_every_name() -> None:
    seeds = {derive(7), derive(8), derive(7, "a"), derive(7, "a", 1), derive(7, "a1"), derive(7, 1, "a")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert numpy_stream(7, "x").random() == numpy_stream(7, "x").random()
    assert torch_stream(7, "x").initial_seed() != torch_stream(7, "y").initial_seed()


def test_an_event_after_a_line_that_was_cut_short_stands_on_its_own(tmp_path: Path) -> None:
    path, heard = tmp_path / "events.jsonl", []
    path.write_text('{"event": "start"}\n{"event": "si')
    log = EventLog(path, [heard.append])
    log({"event": "end"})
    log.close()
    assert json.loads(path.read_text().splitlines()[-1])["event"] == "end"
    assert heard[0]["event"] == "end"
    assert "time" in heard[0]


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    code = f"from polysite.lock import locked\nfrom pathlib import Path\nwith locked(Path({str(tmp_path)!r})): pass"
    with locked(tmp_path), pytest.raises(CheckpointError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process works in this folder" in held.stderr
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert free.returncode == 0, free.stderr


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, polysite.cli; "
        "heavy = {'torch', 'numpy', 'nibabel', 'SimpleITK', 'pydantic', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

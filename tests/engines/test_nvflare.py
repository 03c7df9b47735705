"""Server and hospitals as processes of their own, with mutual TLS between them: the same bytes as in one process."""

import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_socket import enable_socket

from hospitals import states
from polysite import recipe
from polysite.run import create, train
from small_runs import TASKS, digests, polysite, small_raw, start

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        find_spec("nvflare") is None, reason="nvflare is not installed: pip install '.[nvflare]'"
    ),
]
PATIENCE_S = 90


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nvflare")


@pytest.fixture(scope="module")
def raw(data: Path) -> dict[str, Any]:
    return small_raw(data)


@pytest.fixture(scope="module")
def here(data: Path, raw: dict[str, Any]) -> dict[str, str]:
    create(recipe.build(raw), data / "here")
    train(data / "here")
    return digests(data / "here", "*.safetensors")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def kits(data: Path) -> Path:
    """A consortium of two hospitals, then of three."""
    file = data / "consortium.yaml"
    enable_socket()
    about = {"name": "trial", "server": "localhost", "port": free_port(), "hospitals": ["north", "south"]}
    file.write_text(yaml.safe_dump(about))
    assert polysite("provision", file, data / "kits").returncode == 0
    before = {path: path.read_bytes() for path in (data / "kits" / "hospitals").rglob("*") if path.is_file()}
    file.write_text(yaml.safe_dump({**about, "hospitals": list(TASKS)}))
    added = polysite("provision", file, data / "kits")
    assert added.stdout.split() == [str(data / "kits" / "hospitals" / "west")]
    assert all(path.read_bytes() == content for path, content in before.items())
    return data / "kits"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def write_site(folder: Path, kits: Path, raw: dict[str, Any], site: str, **policy: Any) -> Path:
    content = {
        "site": site,
        "data": raw["sites"][site]["data"],
        "cache": raw["cache"],
        "store": str(folder / site),
        "threads": 1,
        "kit": str(kits / "hospitals" / site),
        "policy": {"runs": ["small"], "leaves": ["generator.*"], "min_subjects": 1, **policy},
    }
    path = folder / f"{site}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def write_run(folder: Path, raw: dict[str, Any]) -> Path:
    sites = {name: {**site, "data": {"format": "elsewhere"}} for name, site in raw["sites"].items()}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**raw, "sites": sites}, sort_keys=False))
    return path


def joined(
    folder: Path, kits: Path, raw: dict[str, Any], *options: str, **policy: Any
) -> list[subprocess.Popen[str]]:
    """`polysite join` at every hospital; a site's name gives its own policy."""
    return [
        start("join", write_site(folder, kits, raw, site, **policy.get(site, {})), *options) for site in TASKS
    ]


def serving(folder: Path, kits: Path, *what: str | Path) -> subprocess.Popen[str]:
    limits = ("--wait", str(PATIENCE_S), "--deadline", str(PATIENCE_S), "--listen", "127.0.0.1")
    return start("serve", *what, "--kit", kits / "server", *limits)


def ended(process: subprocess.Popen[str], status: int) -> str:
    """What a process said on standard error, once it has ended as it should."""
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, said
    return said


def test_a_run_over_mutual_tls_leaves_the_same_bytes(
    here: dict[str, str],
    raw: dict[str, Any],
    kits: Path,
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
) -> None:
    processes += joined(tmp_path, kits, raw, "--once")
    processes.append(serving(tmp_path, kits, write_run(tmp_path, raw), "--out", tmp_path / "server"))
    ended(processes[-1], 0)
    for process in processes[:-1]:
        ended(process, 0)
    assert states(digests(tmp_path, "*.safetensors")) == here
    log = tmp_path / "north" / "audit.jsonl"
    checked = polysite("audit", log, "--against", tmp_path / "server" / "audit.jsonl", "--site", "north")
    assert checked.returncode == 0, checked.stderr


def test_a_server_that_was_killed_goes_on_with_the_hospitals_that_waited(
    here: dict[str, str],
    raw: dict[str, Any],
    kits: Path,
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
) -> None:
    processes += joined(tmp_path, kits, raw)
    server = serving(tmp_path, kits, write_run(tmp_path, raw), "--out", tmp_path / "server")
    processes.append(server)
    events = tmp_path / "server" / "events.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not (events.exists() and '"event": "round"' in events.read_text()):
        assert time.monotonic() < deadline
        assert server.poll() is None, server.communicate()[1]
        time.sleep(0.05)
    server.kill()
    server.communicate()
    processes.append(serving(tmp_path, kits, "--resume", tmp_path / "server"))
    ended(processes[-1], 0)
    assert states(digests(tmp_path, "*.safetensors")) == here
    for process in processes[:3]:
        assert process.poll() is None
        process.terminate()
        assert "polysite join" in ended(process, 130)


def test_a_hospital_that_refuses_ends_the_run_with_its_reason(
    raw: dict[str, Any], kits: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    processes += joined(tmp_path, kits, raw, "--once", south={"leaves": ["generator.encoder.*"]})
    processes.append(serving(tmp_path, kits, write_run(tmp_path, raw), "--out", tmp_path / "server"))
    said = ended(processes[-1], 1)
    assert "south: takes no part: " in said
    assert "would leave; no pattern of policy.leaves allows it" in said
    assert not list((tmp_path / "south").glob("small-*"))
    for process in processes[:3]:
        assert "join again" in ended(process, 1)

"""A consortium as processes: server and hospitals started as users start them, watched, disturbed, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from polysite.config.consortium import Consortium
from polysite.kits.provisioning import provision
from small_runs import TASKS

PATIENCE_S = 240.0
"""Nothing takes nearly so long, unless the machine has too much else to do."""


def until(true: Callable[[], Any], what: str, *, within: float = PATIENCE_S) -> Any:
    """Wait until something is true; gives it."""
    deadline = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)
    return found


class Program:
    """A `polysite` command in the background; what it says goes into a file."""

    def __init__(
        self, said: Path, *arguments: str | Path, patch: str = "", prefix: tuple[str, ...] = (), **env: str
    ) -> None:
        self._path = said
        installed = [str(Path(sys.executable).with_name("polysite"))]
        patched = [sys.executable, "-c", f"{patch}\nfrom polysite.cli import main\nmain()"]
        with said.open("ab") as file:
            self.process = subprocess.Popen(
                [*prefix, *(patched if patch else installed), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            )

    @property
    def said(self) -> str:
        """Everything so far."""
        return self._path.read_text(errors="replace")

    def until_said(self, words: str) -> None:
        """Wait for words; an end before them is a failure."""
        until(lambda: words in self.said or not self.runs, f"{words!r}")
        assert words in self.said, self.said

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def ended(self, status: int) -> str:
        """What it said, once it has ended as it should."""
        try:
            found = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end; it said:\n{self.said}") from None
        assert found == status, f"ended with {found}:\n{self.said}"
        assert "Traceback" not in self.said, self.said
        return self.said

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.runs:
            self.process.send_signal(number)

    def go_on(self) -> None:
        """After SIGSTOP."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def leave(self) -> str:
        """Ctrl-C; what it said."""
        self.signal(signal.SIGTERM)
        return self.ended(130)


@dataclass
class Stage:
    """One folder with a consortium, its run, and the processes that a test started.

    Parameters
    ----------
    raw : mapping
        The run's YAML with everybody's data.
    """

    folder: Path
    kits: Path
    raw: Mapping[str, Any]
    programs: list[Program] = field(default_factory=list)

    @property
    def server(self) -> Path:
        """The server's run folder."""
        return self.folder / "server"

    def start(self, said: str, *arguments: str | Path, **how: Any) -> Program:
        """Any command; ended with the test."""
        self.programs.append(Program(self.folder / f"{said}.txt", *arguments, **how))
        return self.programs[-1]

    def join(self, site: str, *options: str, name: str = "", **how: Any) -> Program:
        """`polysite join` with `SITE.yaml`, or another one."""
        file = self.folder / f"{name or site}.yaml"
        return self.start(
            name or site, "join", file if file.exists() else self.write_site(site), *options, **how
        )

    def join_all(self, *options: str, **how: Any) -> dict[str, Program]:
        """Every hospital of the run."""
        return {site: self.join(site, *options, **how) for site in self.raw["sites"]}

    def serve(
        self, *options: str, wait: float = PATIENCE_S, deadline: float = PATIENCE_S, **how: Any
    ) -> Program:
        """`polysite serve`, with ``--resume`` where the run has begun."""
        what = ["--resume", self.server] if self.server.exists() else [self._run_file(), "--out", self.server]
        limits = ("--wait", str(int(wait)), "--deadline", str(int(deadline)))
        listen = () if "--listen" in options else ("--listen", "127.0.0.1")
        return self.start(
            "serve", "serve", *what, "--kit", self.kits / "server", *limits, *listen, *options, **how
        )

    def write_site(
        self, site: str, *, name: str = "", policy: Mapping[str, Any] | None = None, **over: Any
    ) -> Path:
        """SITE.yaml of a hospital."""
        content = {
            "site": site,
            "data": self.raw["sites"][site]["data"]
            if site in self.raw["sites"]
            else {"format": "bids", "path": "x"},
            "cache": self.raw["cache"],
            "store": str(self.folder / (name or site)),
            "threads": 1,
            "kit": str(self.kits / "hospitals" / site),
            "policy": {"runs": ["small"], "leaves": ["generator.*"], "min_subjects": 1, **(policy or {})},
            **over,
        }
        path = self.folder / f"{name or site}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def _run_file(self) -> Path:
        sites = {name: {**site, "data": {"format": "elsewhere"}} for name, site in self.raw["sites"].items()}
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump({**self.raw, "sites": sites}, sort_keys=False))
        return path

    def events(self, name: str, **of: Any) -> list[dict[str, Any]]:
        """What the server's run folder tells of: events of a name with such values."""
        path = self.server / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [
            e for e in found if e["event"] == name and all(e.get(key) == value for key, value in of.items())
        ]

    def until_event(self, name: str, n: int = 1, **of: Any) -> dict[str, Any]:
        """The n-th such event, waited for."""
        until(lambda: len(self.events(name, **of)) >= n, f"{n} events {name} {of}")
        return self.events(name, **of)[n - 1]

    def close(self) -> None:
        """End everything that was started."""
        for program in self.programs:
            program.kill()


@contextmanager
def on_stage(folder: Path, kits: Path, raw: Mapping[str, Any]) -> Iterator[Stage]:
    """A stage whose processes end with the block."""
    stage = Stage(folder, kits, raw)
    try:
        yield stage
    finally:
        stage.close()


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def make_kits(
    folder: Path,
    *,
    server: str = "localhost",
    hospitals: tuple[str, ...] = (*TASKS, "east", "ivy", "juno", "kent"),
) -> Path:
    """Kits of a consortium; of its hospitals, east takes part in no run."""
    provision(Consortium(name="trial", server=server, port=free_port(), hospitals=hospitals), folder)
    return folder


def killed_at(moment: str) -> str:
    """A patch: the process is killed with ``kill -9`` when ``moment``, lines that may call ``die()``, says so."""
    return f"import os, signal, time\ndef die():\n    os.kill(os.getpid(), signal.SIGKILL)\n{moment}"

"""All processes of a case, found by a mark in their environment: their memory, and their end.

The mark is inherited by whatever a command starts, also where that leaves its parent (a shell script's ``&``, Ray).
"""

import os
import secrets
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jobs.job import Command

MARK = "ENGINES_BENCHMARK"
PERIOD_S = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")
CHANGE_BYTES, REFRESH_S = 1_000_000, 2.0
"""How much a process's mapped memory changes, or how long it does not, before its share is asked for anew: the
answer costs the kernel 10 ms for a gigabyte, which the engines would pay for."""


class Mapped(NamedTuple):
    """Memory of files and between processes: what a process maps, its share, and until when that is taken."""

    bytes: int
    share: int
    until: float


class Watch:
    """Starts commands, samples the memory of everything that comes of them, and ends it.

    Memory is the proportional set size: a page of a file or between processes counts once over all that have it.
    """

    def __init__(self) -> None:
        self._mark = f"{MARK}={secrets.token_hex(8)}:"
        self._commands: list[tuple[Command, subprocess.Popen[bytes]]] = []
        self._mapped: dict[int, Mapped] = {}
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[dict[int, int]] = []
        """At each time: process -> bytes."""
        self.roles: dict[int, str] = {}

    def start(self, commands: list[Command], folder: Path) -> float:
        """Start all commands; the time just before, on the monotonic clock. What they say goes to ``*.log``."""
        self._sampler.start()
        begin = time.monotonic()
        for command in commands:
            name, _, value = (self._mark + command.role).partition("=")
            with (folder / f"{command.role}.log").open("ab") as log:
                process = subprocess.Popen(
                    command.arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={**os.environ, **command.environment, name: value},
                    start_new_session=True,  # Ctrl-C is for the benchmark, which then ends them
                )
            self._commands.append((command, process))
        return begin

    def failed(self) -> list[str]:
        """Roles of the commands that ended with another status than 0."""
        return [command.role for command, process in self._commands if process.poll()]

    def done(self) -> bool:
        """Whether every command has ended."""
        return all(process.poll() is not None for _, process in self._commands)

    @property
    def roots(self) -> set[int]:
        """The processes of the commands themselves."""
        return {process.pid for _, process in self._commands}

    def total(self) -> int:
        """Bytes at the last sample."""
        return sum(self.samples[-1].values()) if self.samples else 0

    def alive(self) -> dict[int, str]:
        """Process -> role, of all that are there now."""
        found = {}
        mark = self._mark.encode()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                for setting in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    if setting.startswith(mark):
                        found[int(entry.name)] = setting[len(mark) :].decode()
        return found

    def end(self, patience_s: float = 10) -> float:
        """End all that is still there, asking first; the time when nothing was left."""
        self._send(signal.SIGTERM)
        until = time.monotonic() + patience_s
        while self.alive():
            if time.monotonic() > until:
                self._send(signal.SIGKILL)
            for _, process in self._commands:
                process.poll()  # so that it does not stay as a zombie
            time.sleep(0.02)
        end = time.monotonic()
        self._stop.set()
        if self._sampler.is_alive():
            self._sampler.join()
        for _, process in self._commands:
            process.wait()
        return end

    def _send(self, signal_: signal.Signals) -> None:
        for process in self.alive():
            with suppress(ProcessLookupError):
                os.kill(process, signal_)

    def _sample(self) -> None:
        while not self._stop.wait(PERIOD_S):
            alive = self.alive()
            self.roles |= alive
            self.samples.append({process: self._bytes(process) for process in alive})

    def _bytes(self, process: int) -> int:
        """Proportional set size of a process; 0 if it has just ended."""
        try:
            fields = Path(f"/proc/{process}/statm").read_text().split()
            resident, mapped = int(fields[1]) * PAGE, int(fields[2]) * PAGE
            last = self._mapped.get(process)
            if last is None or abs(mapped - last.bytes) > CHANGE_BYTES or time.monotonic() > last.until:
                last = Mapped(mapped, _share_of_mapped(process), time.monotonic() + REFRESH_S)
                self._mapped[process] = last
        except (OSError, IndexError):
            return 0
        return resident - mapped + last.share


def _share_of_mapped(process: int) -> int:
    """Bytes of a process's files and shared memory, each page divided by the number of processes that have it."""
    share = 0
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Pss_File:", "Pss_Shmem:")):
            share += int(line.split()[1]) * 1024
    return share


def peaks(samples: list[dict[int, int]], owner: Mapping[int, str]) -> dict[str, int]:
    """Most bytes that each owner's processes had together at one time, and ``all`` of them."""
    most: dict[str, int] = defaultdict(int)
    for sample in samples:
        now: dict[str, int] = defaultdict(int)
        for process, bytes_ in sample.items():
            now[owner[process]] += bytes_
            now["all"] += bytes_
        for name, bytes_ in now.items():
            most[name] = max(most[name], bytes_)
    return most

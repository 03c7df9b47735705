"""Several workers on one machine, each with a stated number of threads; the sites are spread over them.

A worker is ``python -m polysite.worker RUN_FOLDER``. It reads one JSON line a request and answers with one JSON
line; tensors travel as the files of the stores, which are written anyway.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import cycle, islice
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.config.base import DeviceName, Section
from polysite.errors import PolysiteError
from polysite.federation.crew import Crew
from polysite.threads import cores


class Processes:
    """Sites are worked on side by side; the messages still come in the order of the sites."""

    class Settings(Section):
        """Settings of the engine."""

        workers: int | None = Field(
            default=None, ge=1, description="default: as many as cores and threads allow"
        )
        threads: int = Field(default=1, ge=1, description="threads of a site's work")
        devices: tuple[DeviceName, ...] = Field(
            default=(),
            description="on which the workers compute in turn, for example [cuda:0, cuda:1], and then as many workers "
            "by default; default: all on the run's device",
        )

    def __init__(self, settings: "Processes.Settings", crew: Crew) -> None:
        self._crew = crew
        devices = settings.devices or (crew.run.device,)
        n_workers = settings.workers or len(settings.devices) or max(1, cores() // settings.threads)
        n_workers = min(n_workers, len(crew.sites))
        torch.set_num_threads(settings.threads)
        self._workers = [
            _Worker(str(crew.folder), settings.threads, device)
            for device in islice(cycle(devices), n_workers)
        ]

    def visit(self, round_: int, news: Mapping[str, Tensor], sites: Iterable[str]) -> Iterator[Message]:
        """Hand sites to idle workers in order; yield their messages in order."""
        self._crew.saver.wait()  # the workers read the server's state from its store
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        order = list(sites)
        for name in order:
            waiting.put(name)
        done: dict[str, queue.SimpleQueue[dict[str, Any]]] = {name: queue.SimpleQueue() for name in order}
        stop = threading.Event()

        def serve(worker: _Worker) -> None:
            while not stop.is_set():
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    return
                answer = worker.ask({"site": name, "round": round_})
                if "error" in answer:
                    stop.set()
                    for other in order:
                        done[other].put(answer)
                done[name].put(answer)

        threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in self._workers]
        for thread in threads:
            thread.start()
        try:
            for name in order:
                answer = done[name].get()
                if "error" in answer:
                    raise PolysiteError(answer["error"])
                outbox, _ = self._crew.sites[name].store.load_outbox(round_ + 1)
                yield Message(name, outbox, answer["weight"], answer["facts"])
        finally:
            stop.set()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """End the workers, at once: what they have not written yet is done again when the run goes on."""
        for worker in self._workers:
            worker.close()
        for site in self._crew.sites.values():
            site.store.clean()


class _Worker:
    """A worker process and the lines that go to and fro."""

    def __init__(self, folder: str, threads: int, device: str) -> None:
        count = str(threads)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "polysite.worker", folder),
                *("--threads", count, "--device", device, "--parent", str(os.getpid())),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            process_group=0,  # Ctrl-C is for this process, which then ends the worker
            env={**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer; a worker that died answers with an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # it died, or was closed while asked
            line = ""
        if not line:
            status = self._process.wait()
            return {
                "error": f"{request['site']}: the worker ended with status {status} in round {request['round']}; "
                "earlier rounds are safe: go on with --resume, with fewer engine.workers if memory ran out"
            }
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Kill it, whatever it does: all that it has answered for is on disk."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

"""The server's carrier: NVFlare's server beside this process, one job for the run, and bytes through the door."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from polysite.engines.door import Closed, Door, receive, send
from polysite.engines.nvflare.kit import LOG, Kit, prepare_workspace, start, stop, write_job
from polysite.errors import PolysiteError

GRACE_S = 30
"""What an answer may be late beyond its time, so that NVFlare speaks first."""
START_S = 120
"""What NVFlare may take from a submitted job to one that runs."""


class NVFlare:
    """Carries payloads to hospitals that joined with `polysite join`.

    Parameters
    ----------
    folder : Path
        Where NVFlare may write; made anew.
    wait_s, patience_s : int
        How long to wait until all hospitals are there, and for one answer.
    """

    def __init__(
        self,
        kit: Kit,
        folder: Path,
        sites: Sequence[str],
        *,
        wait_s: int,
        patience_s: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._patience_s, self._tell = patience_s, tell
        self._folder = prepare_workspace(kit, folder.absolute())
        self._door = Door()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channel = None
        self._answers: dict[str, queue.SimpleQueue[tuple[bytes, bool]]] = {
            site: queue.SimpleQueue() for site in sites
        }
        try:
            self._server = start(kit, self._folder, self._door.path)
            self._processes.append(self._server)
            self._submit(list(sites), wait_s)
            deadline = time.monotonic() + START_S
            self._channel = self._door.wait(lambda: time.monotonic() > deadline or self._ended())
        except Closed as closed:
            self.close()
            raise PolysiteError(
                f"nvflare did not start the run within {START_S} s; {self._see()}"
            ) from closed
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._listen, daemon=True).start()

    def _submit(self, sites: list[str], wait_s: int) -> None:
        """Have the job submitted when all sites are there."""
        job = write_job(self._folder / "job" / "polysite", "polysite", sites, self._patience_s)
        with (self._folder / "steward.txt").open("ab") as log:
            steward = subprocess.Popen(
                [
                    *(sys.executable, "-m", "polysite.engines.nvflare.steward", str(os.getpid())),
                    *(str(self._folder / "steward"), str(job), *sites),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(steward)
        said: queue.SimpleQueue[dict[str, object]] = queue.SimpleQueue()

        def listen() -> None:
            assert steward.stdout is not None
            with steward.stdout as lines:
                for text in lines:
                    said.put(json.loads(text))
            said.put({"ended": "steward"})

        threading.Thread(target=listen, daemon=True).start()
        deadline, missing = time.monotonic() + wait_s, sites
        while True:
            try:
                word = said.get(timeout=0.5)
            except queue.Empty:
                if self._ended():
                    raise PolysiteError(f"nvflare's server ended; {self._see()}") from None
                if time.monotonic() > deadline:
                    raise PolysiteError(
                        f"{', '.join(missing)}: not there after {wait_s} s; is `polysite join` running there, and "
                        "does it reach the server? Go on with --resume"
                    ) from None
                continue
            if "job" in word:
                return
            if "ended" in word:
                raise PolysiteError(f"the run could not be submitted to nvflare; {self._see('steward.txt')}")
            missing = [str(site) for site in word["missing"]]  # type: ignore[attr-defined]
            if missing:
                self._tell(f"waiting for {', '.join(missing)}")

    def exchange(self, requests: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """See `polysite.federation.across.Carrier`."""
        assert self._channel is not None
        order = []
        try:
            for site, data in requests:
                send(self._channel, site, data)
                order.append(site)
        except Closed as closed:
            raise PolysiteError(f"nvflare's job ended; {self._see()}; go on with --resume") from closed
        deadline = time.monotonic() + self._patience_s + GRACE_S
        for site in order:
            try:
                answer, trouble = self._answers[site].get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                answer, trouble = f"no answer within {self._patience_s} s".encode(), True
            if trouble:
                raise PolysiteError(
                    f"{site}: cannot be reached ({answer.decode(errors='replace')[:200]}); finished rounds are safe: "
                    "go on with --resume when it is there again"
                )
            yield site, answer

    def _listen(self) -> None:
        """Take answers as they come; when nvflare's job ends, so does every wait."""
        assert self._channel is not None
        try:
            while True:
                site, content, trouble = receive(self._channel)
                if site in self._answers:
                    self._answers[site].put((content, trouble))
        except Closed:
            for answers in self._answers.values():
                answers.put((b"nvflare's job ended", True))

    def _ended(self) -> bool:
        return self._server.poll() is not None

    def _see(self, name: str = LOG) -> str:
        return f"see {self._folder / name}"

    def close(self) -> None:
        """Let the job end, then the processes."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.shutdown(2)
            self._channel.close()
            if len(self._processes) > 1:  # the steward sees the job end, so that hospitals hear of it
                with suppress(subprocess.TimeoutExpired):
                    self._processes[1].wait(GRACE_S)
        for process in reversed(self._processes):
            stop(process)
        self._door.close()

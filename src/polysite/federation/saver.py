"""States are written in the background, while the next site trains."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polysite.federation.store import Store
from polysite.federation.tensor_files import TensorFile, n_bytes

KEEP_BYTES = 1 << 30
"""The most that snapshots may have that stay in memory."""


class Saver:
    """Saves in the background, in order, while training goes on.

    The snapshots of the first few stores stay in memory as well, because copying from there is three times as fast
    as reading what was just written. All others take turns with two sets of buffers, so memory does not grow with
    the number of sites. An error of a save is raised by the next call, and nothing is written after it: a later
    version must never be on disk without the earlier ones that it stands on.

    Between two sites' training everything waits for one thread after the other, and a save that runs beside it
    makes each of its short parallel steps wait for a processor; so no save begins from `pause` to `resume`.
    """

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="polysite-saver")
        self._pending: list[tuple[Path, Future[None]]] = []
        self._turns: list[dict[str, Tensor]] = [{}, {}]
        self._own: dict[Path, dict[str, Tensor]] = {}
        self._kept: dict[Path, tuple[int, Mapping[str, Tensor]]] = {}
        self._room = keep_bytes
        self._failure: BaseException | None = None
        self._running = threading.Event()
        self._running.set()

    def pause(self) -> None:
        """Begin no save until `resume`, or until somebody waits for one."""
        self._running.clear()

    def resume(self) -> None:
        """Begin the saves that are due."""
        self._running.set()

    def save(
        self,
        store: Store,
        version: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        outbox: TensorFile | None = None,
    ) -> None:
        """Save a snapshot of tensors that may change as soon as this returns, and what a site sends."""
        self.wait(leave=1)
        self._kept.pop(store.folder, None)
        snapshot = _copied(tensors, self._buffers(store, tensors))
        if store.folder in self._own:
            self._kept[store.folder] = version, snapshot
        self.submit(store, version, snapshot, facts, outbox)

    def kept(self, store: Store, version: int) -> Mapping[str, Tensor] | None:
        """The last snapshot of a store, if it is in memory and of this version; only to be read."""
        last, snapshot = self._kept.get(store.folder, (None, None))
        return snapshot if last == version and self._failure is None else None

    def _buffers(self, store: Store, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where a store's snapshot goes; no save under way reads there."""
        self.wait_for(store)
        self._room += n_bytes(self._own.get(store.folder, {}).values())
        needed = n_bytes(tensors.values())
        if needed <= self._room:
            self._room -= needed
            own = self._own.get(store.folder, {})
            self._own[store.folder] = {name: own[name] for name in tensors if name in own}
            return self._own[store.folder]
        self._own.pop(store.folder, None)
        self._turns.reverse()
        return self._turns[0]

    def submit(
        self,
        store: Store,
        version: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        outbox: TensorFile | None = None,
    ) -> Future[None]:
        """Save tensors that nobody will change."""
        future = self._thread.submit(self._run, store, version, tensors, dict(facts), outbox)
        self._pending.append((store.folder, future))
        return future

    def _run(
        self,
        store: Store,
        version: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        outbox: TensorFile | None,
    ) -> None:
        self._running.wait()
        if self._failure is not None:
            raise self._failure
        try:
            store.save(version, tensors, facts, outbox)
        except BaseException as error:
            self._failure = error
            raise

    def wait(self, leave: int = 0) -> None:
        """Return when at most ``leave`` saves are under way; raises what one of the others raised."""
        while len(self._pending) > leave:
            self.resume()
            self._pending.pop(0)[1].result()

    def wait_for(self, store: Store) -> None:
        """Return when all saves of one store are done."""
        for folder, future in self._pending:
            if folder == store.folder:
                self.resume()
                future.result()

    def close(self) -> None:
        """Finish all saves."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(tensors: Mapping[str, Tensor], buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors on the CPU, in the given buffers where shape and type fit; else in new ones, added to them.

    New memory costs seven times a copy, because the system hands it out page by page.
    """
    copies = {}
    for name, tensor in tensors.items():
        buffer = buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
        copies[name] = buffer.copy_(tensor.detach())
    return copies


@contextmanager
def saving() -> Iterator[Saver]:
    """A saver that has finished all saves when the block ends well."""
    saver = Saver()
    try:
        yield saver
    finally:
        saver.close()

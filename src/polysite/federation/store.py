"""Durable state: one folder a version, complete or absent, never half-written.

``FOLDER/round-000003/state.safetensors`` holds the tensors by name, ``state.json`` beside it the facts and
the digest of the tensors' file. A version is written under a temporary name, flushed to disk and renamed, so a
process that is killed at any moment leaves only whole versions behind.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polysite.errors import CheckpointError

FORMAT = 1
KEEP = 2
"""Versions kept: the last whole round, and the one that a round in progress starts from."""


class Store:
    """Versions of one holder's state (a site, or the server).

    Parameters
    ----------
    folder : Path
        Where the versions lie; made on the first save.
    run : str
        Digest of the run's configuration; a version of another run is refused.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._run = run

    def path(self, version: int) -> Path:
        """The folder of a version."""
        return self.folder / f"round-{version:06d}"

    def versions(self) -> list[int]:
        """Versions on disk, oldest first."""
        return sorted(int(path.name[6:]) for path in self.folder.glob("round-[0-9]*"))

    def save(self, version: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
        """Write a version atomically, drop those older than ``KEEP``; the digest of the tensors' file.

        Raises
        ------
        CheckpointError
            If the disk is full or not writable; earlier versions are untouched.
        """
        final = self.path(version)
        temporary = self.folder / f".tmp-{final.name}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            file = temporary / "state.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
            digest = file_digest(file)
            head = {
                "format": FORMAT,
                "run": self._run,
                "version": version,
                "sha256": digest,
                "facts": dict(facts),
            }
            (temporary / "state.json").write_text(json.dumps(head, indent=1), encoding="utf-8")
            for path in (file, temporary / "state.json", temporary):
                _flush(path)
            if final.exists():
                self._drop(final)
            temporary.rename(final)
            _flush(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            cause = "no space left on the device" if full else str(error)
            raise CheckpointError(
                f"{final}: cannot be written: {cause}; earlier rounds are safe: make room, then go on with --resume"
            ) from error
        for old in self.versions():
            if old <= version - KEEP:
                self._drop(self.path(old))
        return digest

    def _drop(self, path: Path) -> None:
        """Remove a version; the rename first, so that no half of it is ever taken for a version."""
        aside = self.folder / f".tmp-old-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def head(self, version: int) -> dict[str, Any]:
        """A version's JSON: format, run, version, digest and facts.

        Raises
        ------
        CheckpointError
            If it is missing, no JSON, or of another run.
        """
        path = self.path(version) / "state.json"
        try:
            head: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise CheckpointError(f"{path}: has format {head['format']!r}; this Polysite reads {FORMAT}")
            if head["run"] != self._run or head["version"] != version:
                raise CheckpointError(
                    f"{path}: belongs to another run or round; start anew with another --out"
                )
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: is cut short or altered; {_REMEDY}") from error
        return head

    def load(
        self, version: int, *, prefix: str = "", verify: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (those under a prefix, without it) and facts of a version.

        Parameters
        ----------
        verify : bool
            Also compare the file with its digest (0.6 s a GB).

        Raises
        ------
        CheckpointError
            If the version is incomplete, altered or of another run.
        """
        head = self.head(version)
        file = self.path(version) / "state.safetensors"
        if verify and (not file.is_file() or file_digest(file) != head["sha256"]):
            raise CheckpointError(
                f"{file}: is cut short or altered (its SHA-256 is not the stored one); {_REMEDY}"
            )
        return read_tensors(file, prefix), head["facts"]

    def clean(self) -> None:
        """Remove what an interrupted write left behind."""
        for path in self.folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)


_REMEDY = "restore it from a backup, or remove this folder if an earlier round-* folder lies beside it"


def read_tensors(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file whose names begin with a prefix, by the rest of the name."""
    try:
        with safe_open(file, framework="pt") as content:
            return {
                name[len(prefix) :]: content.get_tensor(name)
                for name in content.keys()  # noqa: SIM118 (it is no mapping)
                if name.startswith(prefix)
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); {_REMEDY}") from error


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file atomically; the same tensors give the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".tmp-{file.name}")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        _flush(temporary)
        temporary.replace(file)
        _flush(file.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{file}: cannot be written: {error}; make room, then go on with --resume"
        ) from error


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Saver:
    """Saves in the background, in order, while training goes on.

    Two sets of buffers take the snapshots, so memory does not grow with the number of sites. An error of a save
    is raised by the next call, and nothing is written after it: a later version must never be on disk without
    the earlier ones that it stands on.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="polysite-saver")
        self._pending: list[tuple[Path, Future[str]]] = []
        self._buffers: list[dict[str, Tensor]] = [{}, {}]
        self._failure: BaseException | None = None

    def save(
        self,
        store: Store,
        version: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        fixed: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Save a snapshot of tensors that may change as soon as this returns, and ``fixed`` ones that never do."""
        self.wait(leave=1)
        self._buffers.reverse()
        snapshot = _copied(tensors, self._buffers[0])
        self.submit(store, version, {**snapshot, **fixed}, facts)

    def submit(
        self, store: Store, version: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> Future[str]:
        """Save tensors that nobody will change; the future of the file's digest."""
        future = self._thread.submit(self._run, store, version, tensors, dict(facts))
        self._pending.append((store.folder, future))
        return future

    def _run(
        self, store: Store, version: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> str:
        if self._failure is not None:
            raise self._failure
        try:
            return store.save(version, tensors, facts)
        except BaseException as error:
            self._failure = error
            raise

    def wait(self, leave: int = 0) -> None:
        """Return when at most ``leave`` saves are under way; raises what one of the others raised."""
        while len(self._pending) > leave:
            self._pending.pop(0)[1].result()

    def wait_for(self, store: Store) -> None:
        """Return when all saves of one store are done."""
        for folder, future in self._pending:
            if folder == store.folder:
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

"""Durable state: one folder a version, complete or absent, never half-written.

``FOLDER/round-000003/state.safetensors`` holds the tensors by name, ``outbox.safetensors`` beside it what a site
sent, ``state.json`` the facts and the files' digests. A version is written under a temporary name, flushed to disk
and renamed, so a process that is killed at any moment leaves only whole versions behind.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from polysite.errors import CheckpointError
from polysite.federation.tensor_files import (
    REMEDY,
    TensorFile,
    file_digest,
    flush,
    read_in_place,
    read_tensors,
)

FORMAT = 3
KEEP = 2
"""Versions kept: the last whole round, and the one that a round in progress starts from."""
STATE, OUTBOX, HEAD = "state.safetensors", "outbox.safetensors", "state.json"


def _seal(head: Mapping[str, Any]) -> str:
    """SHA-256 of everything else in a version's JSON."""
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


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

    def save(
        self,
        version: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        outbox: TensorFile | None = None,
    ) -> None:
        """Write a version atomically, and drop those older than ``KEEP``.

        Raises
        ------
        CheckpointError
            If the disk is full or not writable; earlier versions are untouched.
        """
        final = self.path(version)
        temporary = self.folder / f".tmp-{final.name}"
        files = {STATE: TensorFile.of(tensors)} | ({} if outbox is None else {OUTBOX: outbox})
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, file in files.items():
                file.write(temporary / name)
            head = {
                "format": FORMAT,
                "run": self._run,
                "version": version,
                "sha256": {name: file.sha256.hex() for name, file in files.items()},
                "facts": dict(facts),
            }
            text = json.dumps({**head, "seal": _seal(head)}, indent=1)
            (temporary / HEAD).write_text(text, encoding="utf-8")
            for path in (*temporary.iterdir(), temporary):
                flush(path)
            if final.exists():
                self._drop(final)
            temporary.rename(final)
            flush(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            cause = "no space left on the device" if error.errno == errno.ENOSPC else str(error)
            raise CheckpointError(
                f"{final}: cannot be written: {cause}; earlier rounds are safe: make room, then go on with --resume"
            ) from error
        for old in self.versions():
            if old <= version - KEEP:
                self._drop(self.path(old))

    def _drop(self, path: Path) -> None:
        """Remove a version; the rename first, so that no half of it is ever taken for a version."""
        aside = self.folder / f".tmp-old-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def head(self, version: int) -> dict[str, Any]:
        """A version's JSON: format, run, version, digests and facts.

        Raises
        ------
        CheckpointError
            If it is missing, no JSON, or of another run.
        """
        path = self.path(version) / HEAD
        try:
            head: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise CheckpointError(f"{path}: has format {head['format']!r}; this Polysite reads {FORMAT}")
            if head.pop("seal") != _seal(head):
                raise CheckpointError(f"{path}: was edited (its seal does not fit); {REMEDY}")
            if head["version"] != version:
                raise CheckpointError(
                    f"{path}: holds round {head['version']}, not the round of its folder; give the folder its "
                    "name back"
                )
            if head["run"] != self._run:
                raise CheckpointError(f"{path}: belongs to another run; start anew with another --out")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}; {REMEDY}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: is cut short or altered; {REMEDY}") from error
        return head

    def load(
        self, version: int, *, prefix: str = "", verify: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (those under a prefix, without it) and facts of a version.

        Parameters
        ----------
        verify : bool
            Also compare the version's files with their digests (0.6 s a GB).

        Raises
        ------
        CheckpointError
            If the version is incomplete, altered or of another run.
        """
        facts = self._facts(version, verify=verify)
        return read_tensors(self.path(version) / STATE, prefix), facts

    def load_outbox(self, version: int, *, verify: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As `load`: what a site sent."""
        facts = self._facts(version, verify=verify)
        return read_tensors(self.path(version) / OUTBOX), facts

    def load_in_place(
        self, version: int, targets: Mapping[str, Tensor], *, verify: bool
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As `load`, but what has a fitting target is read into it; see `tensor_files.read_in_place`.

        Raises
        ------
        CheckpointError
            As `load`; the targets may then hold a part of the version.
        """
        facts = self._facts(version, verify=verify)
        return read_in_place(self.path(version) / STATE, targets), facts

    def _facts(self, version: int, *, verify: bool) -> dict[str, Any]:
        """A version's facts, once all its files are in order: one that is damaged is not used in part."""
        head = self.head(version)
        for name, digest in head["sha256"].items() if verify else ():
            file = self.path(version) / name
            if not file.is_file() or file_digest(file) != digest:
                raise CheckpointError(
                    f"{file}: is cut short or altered (its SHA-256 is not the stored one); {REMEDY}"
                )
        facts: dict[str, Any] = head["facts"]
        return facts

    def clean(self) -> None:
        """Remove what an interrupted write left behind."""
        for path in self.folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)

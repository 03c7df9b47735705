"""A log of everything that came and went, in which nothing can be changed, removed or reordered unnoticed.

One JSON object a line. Each line holds the hash of the line before (``before``) and its own (``hash``), which is
taken over everything else in it. ``NAME.seal`` beside the log holds the number of lines and the last hash, so that
lines missing at the end are found too. Whoever may write both files could write a whole new history: against that
every payload carries the last hash of its sender's log, and the other end writes it into its own (``peer_log``).
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from polysite.errors import CheckpointError, ConfigError
from polysite.federation.tensor_files import flush

FIRST = "0" * 64
"""What stands before the first line."""


class Audit:
    """Appends to an audit log; every line is on the disk before what it tells of happens.

    Raises
    ------
    CheckpointError
        If the log that is there already does not verify, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(path)
            with path.open("ab") as file:
                begun = file.tell() > 0 or seal_of(path).exists()
            lines = verify(path) if begun else []
        except OSError as error:
            raise _unwritable(path, error) from error
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; put back {path.name} and {seal_of(path).name} as they were, or move both away to begin "
                "another log"
            ) from error
        self._n, self.tip = len(lines), lines[-1]["hash"] if lines else FIRST
        self._seal()

    def __call__(self, event: str, **what: Any) -> None:
        """Append one line."""
        if not self._sealed:
            self._seal()
        record = {
            "n": self._n,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **what,
            "before": self.tip,
        }
        record["hash"] = _hash(record)
        try:
            _append((json.dumps(record) + "\n").encode(), self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._n, self.tip = self._n + 1, record["hash"]
        self._seal()

    def _seal(self) -> None:
        """Write down how long the log is; it may be behind by one line, so no other is added before."""
        path = seal_of(self.path)
        temporary = path.with_name(f".tmp-{path.name}")
        self._sealed = False
        try:
            temporary.write_text(json.dumps({"lines": self._n, "hash": self.tip}) + "\n", encoding="utf-8")
            flush(temporary)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _unwritable(path, error) from error
        self._sealed = True


def _append(line: bytes, path: Path) -> None:
    """Add a line to a file, all of it or nothing: on a full disk a part of it may be written."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def seal_of(path: Path) -> Path:
    """The file that says how long a log is."""
    return path.with_name(f"{path.name}.seal")


def listed(tensors: Mapping[str, Tensor]) -> list[list[Any]]:
    """Names, types and shapes for a line of the log."""
    return [
        [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for name, tensor in sorted(tensors.items())
    ]


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be written: {error.strerror}; nothing goes or comes without its line: make room, "
        "then go on"
    )


def _drop_cut_line(path: Path) -> None:
    """Remove a last line without its end: the process was stopped while it wrote, and nothing followed from it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def verify(path: Path) -> list[dict[str, Any]]:
    """All lines of a log, in which nothing was changed, removed or reordered.

    Raises
    ------
    CheckpointError
        Names the first line that does not fit.
    """
    try:
        lines = path.read_bytes().split(b"\n")
        seal = json.loads(seal_of(path).read_text(encoding="utf-8"))
        n_sealed, tip = int(seal["lines"]), str(seal["hash"])
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: cannot be read: {error.strerror}; a log is two files, {path.name} and "
            f"{seal_of(path).name}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{seal_of(path)}: is cut short or altered") from error
    if lines.pop() != b"":
        raise CheckpointError(f"{path}:{len(lines) + 1}: the last line is cut short")
    records: list[dict[str, Any]] = []
    before = FIRST
    for number, line in enumerate(lines):
        where = f"{path}:{number + 1}"
        try:
            record = json.loads(line)
            claimed = record.pop("hash")
            fits = json.dumps({**record, "hash": claimed}).encode() == line
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{where}: is no line of an audit log: it was altered") from error
        if record.get("before") != before or record.get("n") != number:
            raise CheckpointError(
                f"{where}: does not follow the line before it: a line was removed, added or moved here"
            )
        if not fits or _hash(record) != claimed:
            raise CheckpointError(f"{where}: was altered (its hash does not fit)")
        before = claimed
        records.append({**record, "hash": claimed})
    _check_end(path, records, n_sealed, tip)
    return records


def _check_end(path: Path, records: list[dict[str, Any]], n_sealed: int, tip: str) -> None:
    """The seal stands at the last line, or one before it: a process may be stopped between the two."""
    if len(records) < n_sealed:
        raise CheckpointError(
            f"{path}: has {len(records)} lines where {n_sealed} were written: the end is missing"
        )
    sealed = records[n_sealed - 1]["hash"] if n_sealed > 0 else FIRST
    if n_sealed < 0 or len(records) > n_sealed + 1 or sealed != tip:
        raise CheckpointError(
            f"{path}: does not end as {seal_of(path).name} says: lines were added or replaced"
        )


def missing_from(
    records: list[dict[str, Any]], other: list[dict[str, Any]], peer: str
) -> tuple[list[str], int]:
    """What the other end's log says of this one that this one does not hold.

    Parameters
    ----------
    other : list
        The lines of the other end's log.
    peer : str
        What the other log calls this end. A server's log is that of one run: of a hospital's log only that counts.

    Returns
    -------
    list of str, int
        The findings, and how many payloads the other log says came from here.

    Raises
    ------
    ConfigError
        If the other log never names this end.
    """
    peers = {record["peer"] for record in other if record["event"] in ("in", "out")}
    if peer not in peers:
        raise ConfigError(
            f"--site: the other log never names {peer!r}; it names {', '.join(sorted(peers)) or 'nobody'}"
        )
    tips = {FIRST, *(record["hash"] for record in records)}
    carried = [record for record in records if record["event"] in ("in", "out")]
    digests, runs = {record["sha256"] for record in carried}, {record.get("run") for record in carried}
    findings, n_came = [], 0
    for record in other:
        if record["event"] != "in" or record["peer"] != peer:
            continue
        if peer == "server" and runs and record.get("run") not in runs:
            continue
        n_came += 1
        what = f"line {record['n'] + 1} of the other log: {record['kind']} of round {record['round']}"
        if record["peer_log"] not in tips:
            findings.append(f"{what} was sent after a line that is not here")
        if record["sha256"] not in digests:
            findings.append(f"{what} came from here, and there is no line about it")
    return findings, n_came

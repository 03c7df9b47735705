"""An audit log: whatever is changed, removed, moved or added in it is found."""

import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polysite.errors import CheckpointError, ConfigError
from polysite.federation.audit import FIRST, Audit, _hash, listed, missing_from, seal_of, verify

LINES = 5


def write(path: Path, lines: int = LINES) -> list[str]:
    audit = Audit(path)
    for n in range(lines):
        audit("out", peer="server", kind="worked", round=n, bytes=10 * n, sha256=f"{n:064x}")
    return path.read_text().splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write(tmp_path / "audit.jsonl")
    return tmp_path / "audit.jsonl"


def put(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines))


def test_a_log_verifies_and_its_lines_are_chained(log: Path) -> None:
    records = verify(log)
    assert [record["round"] for record in records] == list(range(LINES))
    assert [record["before"] for record in records] == [FIRST, *(record["hash"] for record in records[:-1])]


def test_a_log_goes_on_where_it_was(log: Path) -> None:
    tip = verify(log)[-1]["hash"]
    audit = Audit(log)
    assert audit.tip == tip
    audit("refused", reason="no")
    assert len(verify(log)) == LINES + 1


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    Audit(tmp_path / "a.jsonl")
    assert verify(tmp_path / "a.jsonl") == []


@pytest.mark.parametrize("line", range(LINES))
@pytest.mark.parametrize(
    ("key", "value"), [("bytes", 999), ("peer", "x"), ("n", 77), ("time", ""), ("new", 1)]
)
def test_an_edit_is_found_in_its_line(log: Path, line: int, key: str, value: Any) -> None:
    lines = log.read_text().splitlines()
    record = json.loads(lines[line])
    end = record.pop("hash")
    lines[line] = json.dumps({**record, key: value, "hash": end})
    put(log, lines)
    with pytest.raises(CheckpointError, match=f"audit.jsonl:{line + 1}: "):
        verify(log)


@pytest.mark.parametrize("line", range(LINES - 1))
def test_an_edit_with_a_hash_that_fits_is_found_in_the_next_line(log: Path, line: int) -> None:
    lines = log.read_text().splitlines()
    record = json.loads(lines[line])
    record.pop("hash")
    record["bytes"] = 999
    lines[line] = json.dumps({**record, "hash": _hash(record)})
    put(log, lines)
    with pytest.raises(CheckpointError, match=f"audit.jsonl:{line + 2}: does not follow"):
        verify(log)


@pytest.mark.parametrize("keep", range(LINES))
def test_a_cut_is_found(log: Path, keep: int) -> None:
    put(log, log.read_text().splitlines()[:keep])
    with pytest.raises(CheckpointError, match="the end is missing"):
        verify(log)
    with pytest.raises(CheckpointError, match="the end is missing"):
        Audit(log)


@given(st.permutations(range(LINES)), st.integers(0, LINES))
@settings(deadline=None)
def test_reordering_and_removing_are_found(order: list[int], drop: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        lines = write(path)
        new = [lines[n] for n in order if n != drop]
        put(path, new)
        if new == lines:
            verify(path)
        else:
            with pytest.raises(CheckpointError):
                verify(path)


def test_every_flipped_bit_is_found(log: Path) -> None:
    content = log.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 7
        log.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            verify(log)


def test_added_lines_are_found(log: Path, tmp_path: Path) -> None:
    """Lines that follow well, but that the seal does not know."""
    seal = seal_of(log).read_text()
    write(log, 2)
    seal_of(log).write_text(seal)
    with pytest.raises(CheckpointError, match="were added or replaced"):
        verify(log)


def test_another_seal_is_found(log: Path, tmp_path: Path) -> None:
    write(tmp_path / "other" / "audit.jsonl")
    seal_of(log).write_text(seal_of(tmp_path / "other" / "audit.jsonl").read_text())
    with pytest.raises(CheckpointError, match="were added or replaced"):
        verify(log)
    seal_of(log).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify(log)


def test_a_stop_between_line_and_seal_is_no_fault(log: Path) -> None:
    seal = seal_of(log).read_text()
    write(log, 1)
    seal_of(log).write_text(seal)
    assert len(verify(log)) == LINES + 1
    Audit(log)("in", note="on")
    assert len(verify(log)) == LINES + 2


def test_a_line_that_was_cut_while_it_was_written_is_dropped(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"n": 5, "ti')
    with pytest.raises(CheckpointError, match="cut short"):
        verify(log)
    Audit(log)
    assert len(verify(log)) == LINES


def test_the_other_ends_log_knows_what_is_missing(tmp_path: Path) -> None:
    site, server = Audit(tmp_path / "site"), Audit(tmp_path / "server")
    for n in range(3):
        tip = site.tip
        site("out", peer="server", kind="worked", round=n, sha256=str(n))
        server("in", peer="north", kind="worked", round=n, sha256=str(n), peer_log=tip)
    own, other = verify(tmp_path / "site"), verify(tmp_path / "server")
    assert missing_from(own, other, "north") == ([], 3)
    assert len(missing_from(own[:2], other, "north")[0]) == 1  # its digest
    assert (
        len(missing_from(own[:1], other, "north")[0]) == 3
    )  # two digests, and a line after which one was sent
    with pytest.raises(ConfigError, match=r"^--site: the other log never names 'nroth'; it names north$"):
        missing_from(own[:1], other, "nroth")
    with pytest.raises(ConfigError, match="it names nobody"):
        missing_from(own, [], "north")


def test_of_a_hospitals_log_a_servers_run_is_compared_alone(tmp_path: Path) -> None:
    site, server = Audit(tmp_path / "site"), Audit(tmp_path / "server")
    for run in ("one", "two"):
        for n in range(2):
            tip, what = server.tip, {"kind": "round", "run": run, "round": n, "sha256": f"{run}{n}"}
            if run == "two":
                server("out", peer="north", **what)
            site("in", peer="server", **what, peer_log=tip)
    own, other = verify(tmp_path / "server"), verify(tmp_path / "site")
    assert missing_from(own, other, "server") == ([], 2)
    assert len(missing_from(own[:1], other, "server")[0]) == 1
    assert missing_from([], other, "server")[1] == 4


def test_a_log_whose_first_seal_could_not_be_written_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").touch()
    Audit(tmp_path / "audit.jsonl")("refused", reason="no")
    assert len(verify(tmp_path / "audit.jsonl")) == 1


@pytest.mark.parametrize("gone", ["log", "seal"])
def test_a_log_of_which_a_part_is_gone_is_not_begun_again(log: Path, gone: str) -> None:
    (log if gone == "log" else seal_of(log)).unlink()
    for _ in range(2):
        with pytest.raises(
            CheckpointError, match=r"put back audit\.jsonl and audit\.jsonl\.seal as they were"
        ):
            Audit(log)


def test_what_is_listed_of_tensors() -> None:
    assert listed({"b": torch.zeros(2, 3), "a": torch.tensor(1)}) == [
        ["a", "int64", []],
        ["b", "float32", [2, 3]],
    ]


def test_a_log_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(CheckpointError):
        Audit(tmp_path / "audit.jsonl")


def test_a_line_for_which_the_disk_has_no_room_leaves_no_part_of_it(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit("in", of="north")
    before = audit.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="make room"):
            audit("in", of="x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert audit.path.read_bytes() == before
    audit("in", of="south")
    assert [line["of"] for line in verify(audit.path)] == ["north", "south"]


def test_no_line_is_added_before_the_one_before_it_is_sealed(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    (tmp_path / ".tmp-audit.jsonl.seal").mkdir()  # the seal cannot be written
    for _ in range(3):
        with pytest.raises(CheckpointError):
            audit("in", of="north")
    assert len(verify(audit.path)) == 1
    (tmp_path / ".tmp-audit.jsonl.seal").rmdir()
    audit("in", of="south")
    assert [line["of"] for line in verify(audit.path)] == ["north", "south"]

"""A hospital's loop: what it does when it cannot even say no."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from polysite.config.hospital import Hospital, Policy
from polysite.errors import CheckpointError, ConfigError

pytest.importorskip("nvflare", reason="nvflare is not installed: pip install '.[nvflare]'")

from polysite.hospitals import joining
from polysite.hospitals.joining import _answer_all

FULL = CheckpointError("audit.jsonl: cannot be written: No space left on device; make room, then go on")


class Unwritable:
    """An outpost whose log cannot be written the first time."""

    site, outcome = "north", None

    def __init__(self) -> None:
        self.replies: deque[Any] = deque([FULL, b"answer"])
        self.left = 0

    def answer(self, request: bytes) -> bytes:
        reply = self.replies.popleft()
        if isinstance(reply, CheckpointError):
            raise reply
        self.outcome = "ended"  # type: ignore[assignment]
        return cast(bytes, reply)

    def leave(self) -> None:
        self.left += 1


class Server:
    """A line over which one request comes again and again."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.hung_up = 0

    def next(self) -> bytes:
        if self.answers:
            raise KeyboardInterrupt
        return b"request"

    def answer(self, data: bytes) -> bool:
        self.answers.append(data)
        return True

    def hang_up(self) -> None:
        self.hung_up += 1


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    here = Hospital(
        site="north",
        data=cast(Any, {"format": "bids", "path": tmp_path}),
        store=tmp_path / "file" / "store",
        kit=tmp_path,
        policy=Policy(runs=("any",), leaves=("*",)),
    )
    assert here.cases == tmp_path / "file" / "store" / "cache"
    monkeypatch.setattr(joining, "read_kit", lambda *_: SimpleNamespace(name="north"))
    with pytest.raises(ConfigError, match=r"^store: .*file/store: cannot be made: Not a directory"):
        joining.join(here)


def test_a_hospital_that_cannot_write_its_log_sends_nothing_and_is_asked_again() -> None:
    outpost, line, told = Unwritable(), Server(), list[str]()
    with pytest.raises(KeyboardInterrupt):
        _answer_all(cast(Any, outpost), cast(Any, line), once=False, tell=told.append)
    assert line.answers == [b"answer"]
    assert (line.hung_up, outpost.left) == (1, 1)
    assert told == [f"{FULL}; tried again when the server asks again"]


def test_with_once_it_ends() -> None:
    with pytest.raises(CheckpointError, match="make room"):
        _answer_all(cast(Any, Unwritable()), cast(Any, Server()), once=True, tell=lambda text: None)

"""Losses and validation for TensorBoard, where it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polysite.events import Listener


@contextmanager
def board(folder: Path, first_round: int) -> Iterator[list[Listener]]:
    """A listener that writes ``tb/``; none without the extra ``track``.

    After a resume the rounds from ``first_round`` on replace what was written of them before.
    """
    if find_spec("tensorboard") is None:
        yield []
        return
    writers: list[Any] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "site":
            if not writers:  # a run that has nothing left to do leaves no file
                from torch.utils.tensorboard import SummaryWriter

                writers.append(SummaryWriter(str(folder / "tb"), purge_step=first_round or None))
            values = {
                **event["losses"],
                **{f"validation_{k}": v for k, v in (event["validation"] or {}).items()},
            }
            for name, value in values.items():
                writers[0].add_scalar(f"{name}/{event['site']}", value, event["round"])
        if event["event"] == "round" and writers:
            writers[0].flush()

    try:
        yield [listen]
    finally:
        for writer in writers:
            writer.close()

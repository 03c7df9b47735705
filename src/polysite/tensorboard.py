"""Losses and validation for TensorBoard, where it is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polysite.events import Listener


def listener(folder: Path, first_round: int) -> Listener | None:
    """A listener that writes ``tb/``; None without the extra ``track``.

    After a resume the rounds from ``first_round`` on replace what was written of them before.
    """
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tb"), purge_step=first_round or None)

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "site":
            values = {
                **event["losses"],
                **{f"validation_{k}": v for k, v in (event["validation"] or {}).items()},
            }
            for name, value in values.items():
                writer.add_scalar(f"{name}/{event['site']}", value, event["round"])
        if event["event"] in ("round", "end"):
            writer.flush()

    return listen

"""Tables for the terminal."""

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from polysite.data.cache import PreparedCase
from polysite.tables import registration_table


def case(registration: dict[str, Any] | None) -> PreparedCase:
    steps = {
        "T1w": {"registration": None, "reach": 1.0},
        "T2w": {"registration": registration, "reach": 0.987},
    }
    return PreparedCase(Path("x"), {"site": "north", "key": "sub-01", "reference": "T1w", "steps": steps})


def test_a_registration_shows_its_movement_its_gain_and_its_warning() -> None:
    moved = {
        "shift_mm": 5.25,
        "rotation_degrees": 1.41,
        "information_before": 0.5,
        "information_after": 0.87,
        "warning": "no gain",
    }
    table = registration_table([case(moved)])
    assert table is not None
    text = StringIO()
    Console(width=200, file=text).print(table)
    shown = " ".join(text.getvalue().split())
    assert "north sub-01 T2w to T1w 5.2 1.4 0.500 -> 0.870 99 % no gain" in shown


def test_nothing_is_shown_where_nothing_was_registered() -> None:
    assert registration_table([case(None)]) is None

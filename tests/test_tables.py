"""Tables for the terminal."""

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluate.scores import make_score
from polysite.data.cache import PreparedCase
from polysite.evaluate.summary import overview
from polysite.tables import registration_table, summary_table


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
    assert "north sub-01 T2w to T1w 5.2 1.4 0.500 -> 0.870 99 % no gain" in shown(table)


def test_nothing_is_shown_where_nothing_was_registered() -> None:
    assert registration_table([case(None)]) is None


def shown(table: Table) -> list[str]:
    text = StringIO()
    Console(width=200, file=text).print(table)
    return [" ".join(line.split()) for line in text.getvalue().splitlines()]


def test_segmentation_is_shown_by_site_class_and_method_with_what_is_left_out() -> None:
    scores = [
        make_score(kind="segmentation", subject=subject, task=task, hd95_mm=distance)
        for task in ("LV", "RV")
        for subject, distance in (("a", 4.0), ("b", None if task == "RV" else 6.0))
    ]
    assert shown(summary_table(overview(scores))) == [
        "site class method subjects Dice HD95 (mm) ASSD (mm) Volume error (ml)",
        "north all local 2 0.900 5.0 1.00 5.0",
        "north LV local 2 0.900 5.0 1.00 5.0",
        "north RV local 2 0.900 4.0, n = 1 1.00 5.0",
    ]


def test_synthesis_is_shown_as_ever() -> None:
    lines = shown(summary_table(overview([make_score(), make_score(task="T2w->T1w", psnr_db=25.0)])))
    assert lines == [
        "site task method subjects PSNR (dB) SSIM NRMSE",
        "north T1w->T2w local 1 20.00 0.800 0.300",
        "north T2w->T1w local 1 25.00 0.800 0.300",
    ]

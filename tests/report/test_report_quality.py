"""The page of `polysite qc`."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command import polysite, well
from polysite.errors import DataError
from polysite.report.quality import Contrast, Looked, Plane, checkerboard, draw, write_page

PLANE = Plane(
    name="axial",
    image=np.zeros((20, 30)),
    under=None,
    region=np.zeros((20, 30), bool),
    spacing_mm=(2.0, 1.0),
    sides=("R", "L"),
)
CASE = Looked("north", "sub-01", "train", "T1w", [Contrast("T1w", [PLANE], ["1"])], [])


def page(tmp_path: Path, *cases: Looked) -> str:
    out = write_page(
        cases, tmp_path / "qc.html", title="a run", heads=["Mask (ml)"], about=[("north", "rigid")]
    )
    return out.read_text(encoding="utf-8")


def test_tiles_take_turns_and_have_one_size_in_mm():
    board = checkerboard((40, 80), (3.0, 1.5))
    assert (board[:10, :20] == board[0, 0]).all()
    assert (board[10:20, :20] == ~board[0, 0]).all()
    assert (board[:10, 20:40] == ~board[0, 0]).all()


def test_pixels_are_square_whatever_the_voxels():
    assert draw(PLANE).size == (132, 99)
    assert draw(replace(PLANE, spacing_mm=(1.0, 4.0))).size == (22, 132)


def test_an_outline_is_drawn_where_there_is_something_to_outline():
    region = PLANE.region.copy()
    assert draw(PLANE).outline == ""
    assert draw(replace(PLANE, region=~region)).outline == ""
    region[4:8, 5:9] = True
    assert draw(replace(PLANE, region=region)).outline.startswith("M")


def test_cases_in_doubt_come_first_with_their_reasons(tmp_path):
    doubtful = replace(CASE, key="sub-02", doubts=[("T2w", "covers 60 %")])
    text = page(tmp_path, CASE, doubtful)
    assert "1 of 2 prepared cases should be looked at." in text
    assert text.index("sub-02") < text.index("covers 60 %") < text.index("sub-01")
    assert "Nothing speaks against any of the 1 prepared cases." in page(tmp_path, CASE)


def test_the_page_needs_nothing_but_itself_and_escapes_what_it_is_given(tmp_path):
    wild = "<script>alert(1)</script>"
    text = page(
        tmp_path,
        replace(
            CASE,
            site=wild,
            key=wild,
            doubts=[(wild, wild)],
            contrasts=[Contrast(wild, [PLANE], [wild], [wild])],
        ),
    )
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)


def test_a_refusing_disk_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((DataError, OSError), match="file"):
        write_page([CASE], tmp_path / "file" / "qc.html", title="", heads=[], about=[])


def test_the_command_writes_pictures_of_every_contrast_of_every_case(clinic, tmp_path):
    out = tmp_path / "qc.html"
    command = ("qc", clinic / "run.yaml", "--set", f"cache={tmp_path}", "--out", out)
    assert well(*command) == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    prepared = list((tmp_path / "prepared").glob("*/case.json"))
    n_contrasts = len(list((tmp_path / "prepared").glob("*/*w.npy")))
    assert len(prepared) == 6
    assert text.count("data:image/jpeg;base64,") == 3 * n_contrasts
    for site in ("abbey", "bridge"):
        assert f'id="{site}-sub-{site}01"' in text
    assert str(clinic) not in text  # no paths of this machine
    again = polysite(*command)
    assert (again.status, again.err) == (0, "")
    assert out.read_text(encoding="utf-8") == text

"""Any folder is looked through once, to an end, whatever is in it."""

import os

import pytest

from folders import tree
from layouts import found_in, reasons, visits_of
from polysite.data.datasets import folder
from polysite.errors import DataError

T1 = "IXI002-Guys-0828-T1.nii.gz"


def test_a_loop_of_links_is_entered_once(tmp_path):
    tree(tmp_path, f"a/b/{T1}")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    found = found_in("ixi", tmp_path)
    assert len(found.visits) == 1
    assert found.visits[0].notes == ()
    assert reasons(found).count("looked into already") == 2


def test_a_linked_folder_is_entered_and_a_link_to_nothing_is_told(tmp_path):
    tree(tmp_path / "elsewhere", T1)
    root = tree(tmp_path / "data", "x.txt")
    (root / "scans").symlink_to(tmp_path / "elsewhere")
    (root / T1.replace("T1", "T2")).symlink_to(tmp_path / "annexed")
    (root / "circle").symlink_to(root / "circle")
    found = found_in("ixi", root)
    assert list(found.visits[0].images) == ["T1w"]
    assert reasons(found).count("a link to nothing") == 2


def test_an_unreadable_folder_is_skipped_and_an_unreadable_root_is_an_error(tmp_path, monkeypatch):
    tree(tmp_path, T1, "locked/x")
    scandir = os.scandir
    locked = [tmp_path / "locked"]

    def refuse(path):
        if path in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folder.os, "scandir", refuse)
    found = found_in("ixi", tmp_path)
    assert len(found.visits) == 1
    assert "locked: cannot be read: Permission denied" in reasons(found)
    locked.append(tmp_path)
    with pytest.raises(DataError, match="cannot be read: Permission denied; check its permissions"):
        found_in("ixi", tmp_path)


def test_depth_and_number_are_bounded(tmp_path, monkeypatch):
    deep = "/".join("abcdefgh")
    tree(tmp_path, f"{deep}/{T1}", f"{deep}/i/{T1.replace('T1', 'T2')}")
    found = found_in("ixi", tmp_path)
    assert list(found.visits[0].images) == ["T1w"]
    assert "1 × folders that lie more than 8 deep" in reasons(found)
    monkeypatch.setattr(folder, "MOST", 5)
    with pytest.raises(DataError, match="holds more than 5 files; give the data set's own folder"):
        found_in("ixi", tmp_path)


def test_thousands_of_files_and_paths_with_spaces(tmp_path):
    root = tmp_path / "my data (old)"
    tree(root, *(f"IXI-T1/IXI{n:03d}-HH-{n:04d}-T1.nii.gz" for n in range(3000)))
    assert len(found_in("ixi", root).visits) == 3000


def test_of_two_files_the_first_is_taken_and_what_the_finder_hides_is_not_there(tmp_path):
    tree(tmp_path, f"a/{T1}", f"b/{T1}", f"a/._{T1}", ".trash/IXI003-HH-0001-T1.nii.gz")
    visit = visits_of("ixi", tmp_path)["IXI002"]
    assert visit.images["T1w"] == tmp_path / "a" / T1
    assert visit.notes == (f"b/{T1} was passed over for a/{T1}",)
    assert len(visits_of("ixi", tmp_path)) == 1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        found_in("ixi", tmp_path / "gone")

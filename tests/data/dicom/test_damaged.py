"""Files that are wrong: an error that quotes nothing of them, in bounded time and memory, never a wrong image."""

import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate

from dicom_files import bomb, lps, ras, values, write_enhanced, write_series
from polysite.data.dicom import scan as scanning
from polysite.data.dicom.scan import scan
from polysite.data.dicom.volume import read_series
from polysite.errors import DataError


def refuses(folder, words):
    found = scan(folder)
    with pytest.raises(DataError, match=words):
        read_series(found.series[0])


@pytest.mark.parametrize("keep", [140, 300, 700, 0.9])
def test_a_file_cut_short_spoils_its_series(tmp_path, keep):
    paths = write_series(tmp_path)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    found = scan(tmp_path)
    number = sorted(paths).index(paths[2]) + 1
    assert [n for n, _ in found.damaged] == [number]
    refuses(tmp_path, f"file {number} of it, or beside it, is .*cut short")


def test_a_file_whose_series_is_known_spoils_no_other(tmp_path):
    write_series(tmp_path, description="t1", name="a{:03d}")
    cut = write_series(tmp_path, description="t2", name="b{:03d}")[0]
    cut.write_bytes(cut.read_bytes()[:-50])
    good, bad = scan(tmp_path).series
    assert read_series(good)[0].shape == (12, 10, 7)
    with pytest.raises(DataError, match="cut short in its pixels"):
        read_series(bad)


def test_what_is_not_dicom_is_counted(tmp_path):
    write_series(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("DICM")
    (tmp_path / "noise").write_bytes(np.random.default_rng(1).bytes(5000))
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    found = scan(tmp_path)
    assert (found.n_not_dicom, found.damaged, len(found.files)) == (3, [], 10)


def test_an_object_of_another_kind_is_counted(tmp_path):
    def report(item, k):
        item.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"

    write_series(tmp_path, change=report)
    assert scan(tmp_path).n_other == 7


def test_a_circle_of_links_ends(tmp_path):
    write_series(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    assert len(scan(tmp_path).files) == 7


def test_too_many_files_and_too_deep_folders_are_refused(tmp_path, monkeypatch):
    write_series(tmp_path)
    monkeypatch.setattr(scanning, "MAX_FILES", 6)
    with pytest.raises(DataError, match="more than 6 files"):
        scan(tmp_path)
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    monkeypatch.undo()
    with pytest.raises(DataError, match="more than 32 deep"):
        scan(tmp_path)


def test_a_deflated_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("polysite.data.dicom.reading.MAX_INFLATED", 2**21)
    bomb(tmp_path / "small", 2**20)
    bomb(tmp_path / "large", 2**24)
    assert (tmp_path / "large").stat().st_size < 2**16
    tracemalloc.start()
    found = scan(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22 + 2**20
    assert [why for _, why in found.damaged if "unpacks to more than" in why]


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (65535, 10), (0, 10), (11, 12)])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"])
def test_a_size_that_is_not_there_is_refused_before_memory_is_taken(tmp_path, rows, columns, syntax):
    def claim(item, k):
        item.Rows, item.Columns = rows, columns
        if syntax == "1.2.840.10008.1.2.5":
            item.PixelData = encapsulate([b"\1\0\0\0\x40\0\0\0" + b"\0" * 200])
            item["PixelData"].VR, item["PixelData"].is_undefined_length = "OB", True

    write_series(tmp_path, change=claim, syntax="1.2.840.10008.1.2.1")
    if syntax == "1.2.840.10008.1.2.5":
        for path in tmp_path.iterdir():  # the name of the other syntax is as long
            content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
            path.write_bytes(content)
    tracemalloc.start()
    refuses(tmp_path, "voxels|another size|cannot be unpacked")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_compressed_picture_that_claims_a_larger_size_is_not_given_to_a_decoder(tmp_path, monkeypatch):
    # JPEG 2000: SOC, SIZ of 60000 × 60000
    stream = b"\xff\x4f\xff\x51\0\x29\0\0" + (60000).to_bytes(4, "big") * 2 + bytes(80)

    def change(item, k):
        item.PixelData = encapsulate([stream])
        item["PixelData"].VR, item["PixelData"].is_undefined_length = "OB", True

    monkeypatch.setattr("polysite.data.dicom.pixels._decoded", None)
    write_series(tmp_path, syntax="1.2.840.10008.1.2.4.90", change=change)
    refuses(tmp_path, "another size")


def test_too_many_frames(tmp_path):
    path = write_enhanced(tmp_path / "all")
    content = path.read_bytes()
    at = content.index(b"\x28\x00\x08\x00IS") + 8
    path.write_bytes(content[:at] + b"9 " + content[at + 2 :])
    assert [why for _, why in scan(tmp_path).damaged] == ["has not as many descriptions as frames"]


# --- any damage ---------------------------------------------------------------------------------------

AFFINE = lps("oblique")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A series' files as bytes: plain, run-length encoded, and one enhanced object."""
    made = {}
    for name, syntax in (("plain", "1.2.840.10008.1.2.1"), ("rle", "1.2.840.10008.1.2.5")):
        folder = tmp_path_factory.mktemp(name)
        write_series(folder, values((6, 5, 5)), AFFINE, syntax=syntax, description="SECRET")
        made[name] = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder = tmp_path_factory.mktemp("enhanced")
    write_enhanced(folder / "a", values((6, 5, 5)), AFFINE, description="SECRET")
    made["enhanced"] = {"a": (folder / "a").read_bytes()}
    return made


def header_length(content):
    return content.rindex(b"\xe0\x7f\x10\x00")


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_hangs_or_gives_a_wrong_image_unnoticed(whole, data):
    kind = data.draw(st.sampled_from(list(whole)))
    files = dict(whole[kind])
    victim = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[victim])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
        damaged = None
    else:
        damaged = [data.draw(st.integers(0, len(content) - 1)) for _ in range(data.draw(st.integers(1, 3)))]
        for at in damaged:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
    files[victim] = bytes(content)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, kept in files.items():
            (folder / path).write_bytes(kept)
        found = scan(folder)
        text = repr(found.damaged)
        try:
            images = [read_series(series)[0] for series in found.series]
        except DataError as error:
            text += str(error)
            images = []
        assert "SECRET" not in text
        assert name not in text
    told = found.n_other or found.n_not_dicom or found.damaged or len(found.series) != 1
    if kind == "enhanced" or told:
        return  # a shared element of one object can be checked against nothing; the rest is told of
    for image in images:
        truth = values((6, 5, 5))
        assert image.shape == truth.shape
        corners = np.array([[0, 0, 0, 1], [5, 4, 4, 1]]).T
        apart = image.affine @ corners - ras(AFFINE) @ corners
        assert np.abs(apart).max() < 0.1
        # bytes of pixels have no checksum: a flipped one changes its own slice alone; a scale is told of
        wrong = np.unique(np.nonzero(image.array != truth)[2])
        assert len(wrong) <= 1
        if len(wrong) and not image.notes:
            assert damaged is not None
            assert any(at > header_length(whole[kind][victim]) for at in damaged)

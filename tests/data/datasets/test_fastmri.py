"""fastMRI: contrasts that belong to nobody, and reconstructions as images."""

from pathlib import Path

import numpy as np
import pytest

from command import refused, well
from folders import tree
from layouts import found_in, reasons
from polysite.errors import DataError
from polysite.image import read_image

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>640</x><y>320</y><z>1</z></matrixSize>
<fieldOfView_mm><x>440</x><y>220</y><z>7.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>320</x><y>160</y><z>1</z></matrixSize>
<fieldOfView_mm><x>220</x><y>240</y><z>7.5</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


def write(path: Path, header: str | None = HEADER, **data: object) -> np.ndarray:
    h5py = pytest.importorskip("h5py")
    values = np.arange(3 * 32 * 16, dtype=np.float32).reshape(3, 32, 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, content in (data or {"reconstruction_rss": values}).items():
            file[name] = content
        if header is not None:
            file["ismrmrd_header"] = header.encode()
    return values


def test_every_file_is_a_visit_of_its_own(tmp_path):
    tree(
        tmp_path,
        "multicoil_train/file_brain_AXT1_202_2020001.h5",
        "multicoil_train/file_brain_AXT1POST_202_6000001.h5",
        "multicoil_val/file_brain_AXT2_200_2000002.h5",
        "multicoil_test/file_brain_AXFLAIR_200_6002468.h5",
        "file_brain_AXDIFF_200_1.h5",
    )
    found = found_in("fastmri", tmp_path)
    assert [(visit.site, list(visit.images), visit.facts["set"]) for visit in found.visits] == [
        ("202", ["T1ce"], "train"),
        ("202", ["T1w"], "train"),
        ("200", ["T2w"], "val"),
    ]
    assert len({visit.subject for visit in found.visits}) == 3
    assert "1 × the test set has k-space only" in reasons(found)
    assert "1 × another acquisition" in reasons(found)


def test_a_synthesis_task_is_refused_because_there_are_no_pairs(tmp_path):
    tree(tmp_path, "multicoil_train/file_brain_AXT1_202_2020001.h5")
    (tmp_path / "run.yaml").write_text(
        f"name: x\ncontrasts: [T1w, T2w]\nsites:\n  nyu:\n    data: {{format: fastmri, path: {tmp_path}}}\n"
        "    tasks: [T1w->T2w]\n"
    )
    says = ["sites.nyu", "no pairs of contrasts", "nothing says which files are of one person"]
    refused("check", tmp_path / "run.yaml", says=says, status=1)


def test_a_reconstruction_is_an_image_without_orientation(tmp_path):
    path = tmp_path / "file_brain_AXT1_202_2020001.h5"
    values = write(path)
    image = read_image(path, "T1w")
    assert image.spacing_mm == (1.5, 0.6875, 7.5), "columns along y of the header, rows along x"
    np.testing.assert_array_equal(image.array, np.transpose(values, (2, 1, 0)))
    assert any("no orientation" in note for note in image.notes)
    assert any("gap" in note for note in image.notes)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (
            HEADER,
            {"kspace": np.zeros(3), "mask": [1]},
            r"no reconstruction_rss but ismrmrd_header, kspace, mask",
        ),
        (HEADER, {"reconstruction_rss": np.zeros((4, 4))}, r"not shape \(4, 4\)"),
        (HEADER, {"reconstruction_rss": ["a"]}, "unreadable or cut short"),
        (None, {}, "does not tell the voxel size"),
        ("<open>", {}, "does not tell the voxel size"),
        ('<!DOCTYPE x [<!ENTITY a "aa">]>' + HEADER[22:], {}, "it defines a document type"),
        (HEADER.replace(">240<", ">0<"), {}, r"does not tell the voxel size \(fieldOfView_mm/y is 0\)"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_says_so(tmp_path, header, data, message):
    path = tmp_path / "file.h5"
    write(path, header, **data)
    with pytest.raises(DataError, match=message):
        read_image(path)


def test_a_file_that_leads_elsewhere_or_promises_too_much_is_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "other.h5")
    for number, (link, message) in enumerate(
        (
            (h5py.ExternalLink(str(tmp_path / "other.h5"), "reconstruction_rss"), "is a link"),
            (h5py.SoftLink("/elsewhere"), "is a link"),
        )
    ):
        path = tmp_path / f"link{number}.h5"
        with h5py.File(path, "w") as file:
            file["reconstruction_rss"] = link
        with pytest.raises(DataError, match=message):
            read_image(path)
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("reconstruction_rss", (99_999, 9999, 9999), "f4", chunks=(1, 99, 99))
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        raw = [(str(tmp_path / "other.h5"), 0, 480)]
        file.create_dataset("reconstruction_rss", (4, 5, 6), "f4", external=raw)
    for name, message in (("huge", "is said to be of shape"), ("outside", "values of .* not in this file")):
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / f"{name}.h5")


def test_a_file_that_is_cut_short_says_so(tmp_path):
    path = tmp_path / "file.h5"
    write(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="unreadable or cut short"):
        read_image(path)


def test_a_model_is_applied_to_a_reconstruction(trained, tmp_path):
    from heads import grid_affine, head

    shape = (32, 36, 6)
    values = head("T1w", shape, grid_affine(shape, (3.0, 3.0, 7.5)))
    write(tmp_path / "file_brain_AXT1_202_2020001.h5", reconstruction_rss=values.T)
    out = tmp_path / "out.nii.gz"
    well(
        "predict",
        trained,
        tmp_path / "file_brain_AXT1_202_2020001.h5",
        out,
        "--site",
        "bridge",
        "--task",
        "T1w->T2w",
    )
    assert read_image(out).shape == shape

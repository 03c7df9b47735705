"""Hospitals as BIDS: the table, the files, the units, and the same bytes again."""

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysite.errors import DataError
from polysite.image import read_image
from polysite.phantom import scanner
from polysite.phantom.consortium import hospitals, write_hospital
from polysite.phantom.examination import image_grid
from polysite.phantom.kinds import KINDS
from polysite.phantom.tissue import TISSUES


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def load(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_the_first_four_hospitals_fit_the_paper_s_tasks() -> None:
    contrasts = [set(h.contrasts) for h in hospitals()[:4]]
    assert contrasts == [
        {"T1w", "T2w", "PDw"},
        {"T1w", "T2w", "FLAIR"},
        {"T1w", "T2w"},
        {"T1w", "T2w", "FLAIR"},
    ]
    assert [h.lesions for h in hospitals()[:4]] == [False, True, False, False]
    assert {h.field_t for h in hospitals()[:4]} == {1.5, 3.0}
    assert len({h.manufacturer for h in hospitals()[:4]}) == 3
    assert len({h.protocol("T1w").sequence for h in hospitals()[:4]}) == 2
    echo_times = [h.protocol("T2w").te_ms for h in hospitals()[:4]]
    assert max(echo_times) > 1.5 * min(echo_times)


def test_every_hospital_and_row_is_complete() -> None:
    names = [h.name for h in hospitals()]
    assert len(names) == len(set(names)) >= 6
    for hospital in hospitals():
        assert re.fullmatch(r"[A-Za-z0-9]+", hospital.name)  # part of a BIDS label
        assert hospital.contrasts[0] == "T1w"
        for protocol in hospital.protocols:
            assert len(protocol.source) > 20
            assert 0 < protocol.te_ms < protocol.tr_ms


def test_the_layout_is_bids(bridge: Path) -> None:
    assert load(bridge / "dataset_description.json")["DatasetType"] == "raw"
    with (bridge / "participants.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows == [{"participant_id": f"sub-bridge0{k}", "site": "bridge"} for k in (1, 2)]
    for row in rows:
        names = {p.name for p in (bridge / row["participant_id"] / "anat").iterdir()}
        assert names == {
            f"{row['participant_id']}_{c}{end}"
            for c in ("T1w", "T2w", "FLAIR")
            for end in (".nii.gz", ".json")
        }
    truth = load(bridge / "derivatives/truth/dataset_description.json")
    assert truth["DatasetType"] == "derivative"
    assert truth["GeneratedBy"][0]["Name"] == "polysite phantom"  # type: ignore[index]


def test_sidecars_are_in_seconds_and_degrees(bridge: Path) -> None:
    flair = load(bridge / "sub-bridge01/anat/sub-bridge01_FLAIR.json")
    assert (flair["RepetitionTime"], flair["EchoTime"], flair["InversionTime"]) == (12.0, 0.094332, 2.71278)
    t1w = load(bridge / "sub-bridge01/anat/sub-bridge01_T1w.json")
    assert (t1w["FlipAngle"], t1w["MagneticFieldStrength"]) == (8.0, 3.0)
    assert (t1w["RepetitionTime"], t1w["InversionTime"]) == (0.006652, 0.45)
    assert (t1w["Manufacturer"], t1w["ManufacturersModelName"]) == ("GE", "DISCOVERY MR750")
    assert t1w["SliceThickness"] == t1w["SpacingBetweenSlices"] == 5.0


def test_images_share_the_grid_and_hold_a_head(bridge: Path) -> None:
    anat = bridge / "sub-bridge02/anat"
    images = {c: read_image(anat / f"sub-bridge02_{c}.nii.gz", c) for c in ("T1w", "T2w", "FLAIR")}
    for image in images.values():
        assert image.shape == images["T1w"].shape
        assert_allclose(image.affine, images["T1w"].affine)
        assert_allclose(image.spacing_mm, 5, rtol=1e-6)
        assert image.array.min() >= 0
    labels = read_image(bridge / "derivatives/truth/sub-bridge02/anat/sub-bridge02_dseg.nii.gz").array
    of = {name: labels == index for index, name in enumerate(TISSUES)}
    means = {c: {n: float(i.array[m].mean()) for n, m in of.items() if m.any()} for c, i in images.items()}
    for c in means:
        assert means[c]["air"] < 0.35 * means[c]["white_matter"]
    assert means["T1w"]["white_matter"] > means["T1w"]["grey_matter"] > means["T1w"]["csf"]
    assert means["T2w"]["csf"] > means["T2w"]["grey_matter"] > means["T2w"]["white_matter"]
    # in voxels of 5 mm most grey matter shares its voxel with dark CSF
    assert means["FLAIR"]["csf"] < 0.7 * min(means["FLAIR"]["grey_matter"], means["FLAIR"]["white_matter"])


def test_truth_explains_the_scan(bridge: Path) -> None:
    """The scan is the clean image moved as stated, but for shading and noise; T1 and T2 are seconds."""
    truth = bridge / "derivatives/truth/sub-bridge01/anat"
    scan = read_image(bridge / "sub-bridge01/anat/sub-bridge01_T2w.nii.gz").array
    clean = read_image(truth / "sub-bridge01_desc-clean_T2w.nii.gz").array
    motion = np.array(load(truth / "sub-bridge01_desc-clean_T2w.json")["ScanToTruth"])
    assert 0 < np.linalg.norm(motion[:3, 3]) < 2
    moved = scanner.move(clean, image_grid(hospitals()[1], 5.0), motion)
    assert np.corrcoef(scan.ravel(), moved.ravel())[0, 1] > 0.95
    still = load(truth / "sub-bridge01_desc-clean_T1w.json")["ScanToTruth"]
    assert_allclose(np.array(still), np.eye(4))
    t1 = read_image(truth / "sub-bridge01_T1map.nii.gz").array
    white = read_image(truth / "sub-bridge01_dseg.nii.gz").array == TISSUES.index("white_matter")
    assert 0.75 < np.median(t1[white]) < 1.1


def test_labels_are_named(bridge: Path) -> None:
    with (bridge / "derivatives/truth/dseg.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(int(r["index"]), r["name"]) for r in rows] == list(enumerate(TISSUES))


def test_the_same_seed_gives_the_same_bytes_and_a_prefix(bridge: Path, tmp_path: Path) -> None:
    one = write_hospital(tmp_path / "one", "bridge", n_subjects=1, seed=3, voxel_mm=5.0)
    for pattern in ("sub-bridge01/**/*", "derivatives/truth/sub-bridge01/**/*"):
        first = digests(one, pattern)
        assert len(first) >= 6
        assert first == digests(bridge, pattern)


def test_another_seed_or_fewer_contrasts(bridge: Path, tmp_path: Path) -> None:
    name = "sub-bridge01/anat/sub-bridge01_T2w.nii.gz"
    other = write_hospital(tmp_path / "other", "bridge", n_subjects=1, seed=4, voxel_mm=5.0)
    assert (other / name).read_bytes() != (bridge / name).read_bytes()
    few = write_hospital(
        tmp_path / "few", "bridge", n_subjects=1, seed=3, voxel_mm=5.0, contrasts=("T2w", "FLAIR")
    )
    assert len(list((few / "sub-bridge01/anat").glob("*.nii.gz"))) == 2
    # a contrast does not depend on the others, and moves as it would with them
    assert (few / name).read_bytes() == (bridge / name).read_bytes()


def test_a_consortium_is_a_folder_a_hospital(tmp_path: Path) -> None:
    lines: list[str] = []
    folders = KINDS["brain"].write(
        tmp_path / "out", n_sites=2, n_subjects=1, voxel_mm=8.0, progress=lines.append
    )
    assert [folder.name for folder in folders] == ["abbey", "bridge"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["abbey", "bridge"]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hospital": "brigde"}, "did you mean 'bridge'"),
        ({"contrasts": ("T1w", "PDw")}, "'PDw' is not acquired"),
        ({"contrasts": ()}, "needs a subject and a contrast"),
        ({"n_subjects": 0}, "needs a subject and a contrast"),
        ({"voxel_mm": 0.1}, "voxel_mm is 0.1"),
    ],
)
def test_what_cannot_be_made_is_said(change: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments: dict[str, object] = {"hospital": "bridge", "n_subjects": 1, "seed": 1, "voxel_mm": 8.0}
    with pytest.raises(DataError, match=message):
        write_hospital(tmp_path / "out", **{**arguments, **change})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_hospital(tmp_path, "bridge", n_subjects=1, seed=1)
    with pytest.raises(DataError, match="not empty"):
        KINDS["brain"].write(tmp_path, n_sites=4)
    with pytest.raises(DataError, match="1 to 8"):
        KINDS["brain"].write(tmp_path / "new", n_sites=99)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polysite.phantom.consortium._write_subject", full)
    with pytest.raises(DataError, match="No space left"):
        write_hospital(tmp_path / "out", "bridge", n_subjects=1, seed=1, voxel_mm=8.0)
    assert not list(tmp_path.iterdir())

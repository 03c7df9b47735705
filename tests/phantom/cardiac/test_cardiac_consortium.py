"""Centres as BIDS: files, sidecars, labels, exact volumes, and the same bytes again."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysite.errors import DataError
from polysite.image import read_image
from polysite.phantom.cardiac.consortium import write_centre
from polysite.phantom.kinds import KINDS


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def lark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_centre(tmp_path_factory.mktemp("c") / "lark", "lark", n_subjects=2, seed=3, voxel_mm=3.0)


@pytest.fixture(scope="module")
def nave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_centre(tmp_path_factory.mktemp("c") / "nave", "nave", n_subjects=1, seed=3, voxel_mm=3.0)


def test_a_frame_is_a_file(lark: Path, nave: Path) -> None:
    stems = {f"sub-lark01_rec-{frame}" for frame in ("ED", "ES")}
    ends = (".nii.gz", ".json")
    scans = {p.name for p in (lark / "sub-lark01/anat").iterdir()}
    assert scans == {f"{s}_cine{e}" for s in stems for e in ends}
    truths = {p.name for p in (lark / "derivatives/truth/sub-lark01/anat").iterdir()}
    assert truths == {f"{s}_{t}{e}" for s in stems for t in ("desc-clean_cine", "dseg") for e in ends}
    assert {p.name for p in (nave / "sub-nave01/anat").iterdir()} == {f"sub-nave01_LGE{e}" for e in ends}
    assert "*_cine.*" in (lark / ".bidsignore").read_text()


def test_labels_are_named_as_in_the_public_data_sets(lark: Path, nave: Path) -> None:
    names = [[r["name"] for r in rows(f / "derivatives/truth/dseg.tsv")] for f in (lark, nave)]
    assert names[0] == ["background", "lv", "myocardium", "rv"]
    assert names[1] == ["background", "lv", "myocardium", "infarct", "no_reflow"]


def test_image_and_labels_share_a_grid_with_a_gap(lark: Path) -> None:
    image = read_image(lark / "sub-lark02/anat/sub-lark02_rec-ES_cine.nii.gz")
    labels = read_image(lark / "derivatives/truth/sub-lark02/anat/sub-lark02_rec-ES_dseg.nii.gz")
    assert image.shape == labels.shape
    assert_allclose(image.affine, labels.affine)
    assert_allclose(image.spacing_mm, (3, 3, 10), rtol=1e-5)
    about = load(lark / "sub-lark02/anat/sub-lark02_rec-ES_cine.json")
    assert (about["SliceThickness"], about["SpacingBetweenSlices"]) == (8, 10)
    assert (about["RepetitionTime"], about["EchoTime"], about["FlipAngle"]) == (0.0036, 0.0018, 45)
    assert about["CardiacPhase"] == "end-systole"


def test_enhancement_states_its_inversion_time(nave: Path) -> None:
    about = load(nave / "sub-nave01/anat/sub-nave01_LGE.json")
    assert 0.15 < about["InversionTime"] < 0.4
    assert about["ContrastBolusIngredient"] == "GADOLINIUM"


def test_exact_volumes_stand_beside_the_labels(lark: Path) -> None:
    people = rows(lark / "participants.tsv")
    assert [p["group"] for p in people] == ["infarcted", "hypertrophic"]
    for row in rows(lark / "phenotype/heart.tsv"):
        edv, esv, ef = (float(row[f"lv_{key}"]) for key in ("edv_ml", "esv_ml", "ef_percent"))
        assert_allclose(100 * (1 - esv / edv), ef, atol=0.01)
        subject = row["participant_id"]
        labels = read_image(lark / f"derivatives/truth/{subject}/anat/{subject}_rec-ED_dseg.nii.gz")
        seen = (labels.array == 1).sum() * np.prod(labels.spacing_mm) / 1000
        assert_allclose(seen, edv, rtol=0.12)
    assert set(load(lark / "phenotype/heart.json")) > set(row) - {"participant_id"}


def test_a_subject_does_not_depend_on_how_many_there_are(lark: Path, tmp_path: Path) -> None:
    one = write_centre(tmp_path / "lark", "lark", n_subjects=1, seed=3, voxel_mm=3.0)
    for part in ("sub-lark01", "derivatives/truth/sub-lark01"):
        assert digests(one / part) == digests(lark / part)
    other = write_centre(tmp_path / "other", "lark", n_subjects=1, seed=4, voxel_mm=3.0)
    assert digests(other / "sub-lark01") != digests(lark / "sub-lark01")


def test_a_consortium_is_a_folder_a_centre(tmp_path: Path) -> None:
    lines: list[str] = []
    KINDS["cardiac"].write(tmp_path / "out", n_sites=2, n_subjects=1, voxel_mm=6.0, progress=lines.append)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ivy", "juno"]
    assert len(lines) == 2
    with pytest.raises(DataError, match="1 to 6"):
        KINDS["cardiac"].write(tmp_path / "new", n_sites=7)
    with pytest.raises(DataError, match="not empty"):
        KINDS["cardiac"].write(tmp_path / "out", n_sites=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "iyv"}, "did you mean 'ivy'"),
        ({"n_subjects": 0}, "a subject"),
        ({"voxel_mm": 30.0}, "0.5 to 10"),
    ],
)
def test_what_cannot_be_made_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_centre(tmp_path / "out", **{"name": "ivy", "n_subjects": 1, "seed": 1, **change})
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polysite.phantom.cardiac.consortium._write_subject", full)
    with pytest.raises(DataError, match="No space left"):
        write_centre(tmp_path / "out", "ivy", n_subjects=1, seed=1, voxel_mm=8.0)
    assert not list(tmp_path.iterdir())

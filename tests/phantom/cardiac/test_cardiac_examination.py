"""Stacks and labels: complete, nested, smaller at end-systole, in the right place, and the same again."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from polysite.phantom.cardiac.centre import PACKAGE, Centre, centre_named, centres
from polysite.phantom.cardiac.examination import Examination, enhanced, examine, null_time
from polysite.phantom.cardiac.heart import truth
from polysite.phantom.signal import phase_sensitive
from polysite.phantom.tissue import tissues

CINE = [centre for centre in centres() if not centre.enhanced]
LGE = centre_named("nave")
CROSS = ndimage.generate_binary_structure(2, 1)


@pytest.fixture(scope="module")
def cines() -> dict[str, Examination]:
    return {centre.name: examine(centre, seed=5, number=k + 1) for k, centre in enumerate(CINE)}


@pytest.fixture(scope="module")
def enhancements() -> list[Examination]:
    return [examine(LGE, seed=5, number=number) for number in (1, 2, 3, 4, 5)]


def volume(examination: Examination, frame: int, *values: int) -> float:
    step = np.prod(examination.grid.step_mm) / 1000
    return float(np.isin(examination.scans[frame].labels, values).sum() * step)


def mid_slices(labels: np.ndarray) -> range:
    """The middle half of the slices that show the cavity."""
    seen = np.flatnonzero((labels == 1).any((0, 1)))
    quarter = len(seen) // 4
    return range(seen[quarter], seen[-1 - quarter] + 1)


def test_there_are_five_cine_centres_and_one_of_enhancement() -> None:
    assert len(CINE) == 5
    assert [centre.enhanced for centre in centres()] == [False] * 5 + [True]
    assert [c.manufacturer for c in CINE] == ["Siemens", "Philips", "Philips", "GE", "Canon"]
    assert {c.field_t for c in CINE} == {1.5, 3.0}
    for centre in centres():
        assert 1.25 <= centre.in_plane_mm <= 1.6
        assert 8 <= centre.thickness_mm <= 10
        assert len(centre.source) > 20
        assert CINE[0].labels == ("background", "lv", "myocardium", "rv")
    assert LGE.labels == ("background", "lv", "myocardium", "infarct", "no_reflow")


@pytest.mark.parametrize("centre", CINE, ids=lambda c: c.name)
def test_the_cavity_lies_in_a_closed_ring_and_the_right_ventricle_beside_it(
    centre: Centre, cines: dict[str, Examination]
) -> None:
    for scan in cines[centre.name].scans:
        assert set(np.unique(scan.labels)) == {0, 1, 2, 3}
        for k in mid_slices(scan.labels):
            labels = scan.labels[:, :, k]
            around = ndimage.binary_dilation(labels == 1, CROSS) & (labels != 1)
            assert set(np.unique(labels[around])) == {2}
        right = ndimage.binary_dilation(scan.labels == 3) & (scan.labels == 2)
        assert right.sum() > 50


@pytest.mark.parametrize("centre", CINE, ids=lambda c: c.name)
def test_labels_hold_the_stated_volumes_and_ejection_fraction(
    centre: Centre, cines: dict[str, Examination]
) -> None:
    """Slices are few and thick: within 10 % of the exact volumes, and 6 points of the ejection fraction."""
    examination = cines[centre.name]
    exact = truth(examination.heart)
    ed, es = volume(examination, 0, 1), volume(examination, 1, 1)
    assert es < ed
    assert_allclose(ed, exact["lv_edv_ml"], rtol=0.1)
    assert_allclose(100 * (1 - es / ed), exact["lv_ef_percent"], atol=6)
    right = volume(examination, 0, 3), volume(examination, 1, 3)
    assert_allclose(right[0], exact["rv_edv_ml"], rtol=0.12)
    assert_allclose(100 * (1 - right[1] / right[0]), exact["rv_ef_percent"], atol=9)
    assert_allclose(volume(examination, 0, 2), exact["myocardium_ml"], rtol=0.12)


@pytest.mark.parametrize("centre", CINE, ids=lambda c: c.name)
def test_blood_is_bright_and_muscle_is_dark_in_cine(centre: Centre, cines: dict[str, Examination]) -> None:
    scan = cines[centre.name].scans[0]
    blood, muscle = (float(scan.image[scan.labels == k].mean()) for k in (1, 2))
    assert blood > 1.8 * muscle
    lung = scan.image[: 20 * scan.image.shape[0] // 100, : scan.image.shape[1] // 10].mean()
    assert lung < muscle  # the corner is air
    assert scan.image.min() >= 0


def test_enhancement_has_scar_and_no_right_ventricle(enhancements: list[Examination]) -> None:
    for examination in enhancements:
        (scan,) = examination.scans
        found = set(np.unique(scan.labels))
        exact = truth(examination.heart)
        assert (3 in found) == (examination.heart.group == "infarcted")
        assert (4 in found) <= (exact["no_reflow_ml"] > 0)
        assert_allclose(volume(examination, 0, 2, 3, 4), exact["myocardium_ml"], rtol=0.12)
        if 3 not in found:
            continue
        assert_allclose(volume(examination, 0, 3, 4), exact["infarct_ml"], rtol=0.25)
        mean = {k: float(scan.clean[scan.labels == k].mean()) for k in found}
        assert mean[3] > 3 * abs(mean[2])
        for k in range(scan.labels.shape[2]):
            labels = scan.labels[:, :, k]
            if (labels == 4).any():
                around = ndimage.binary_dilation(labels == 4, CROSS) & (labels != 4)
                assert set(np.unique(labels[around])) <= {1, 3}
        if 4 in found:
            assert mean[4] < 0.5 * mean[3]
    assert any(4 in np.unique(e.scans[0].labels) for e in enhancements)


def test_the_inversion_time_nulls_the_myocardium(enhancements: list[Examination]) -> None:
    """Agent shortens T1 as stated, and the time found is the one at which the signal changes sign."""
    table = tissues(LGE.field_t, PACKAGE)
    given = enhanced(table, blood_mmol=0.5)
    assert_allclose(1000 / given["blood"].t1_ms, 1000 / table["blood"].t1_ms + 4.5 * 0.5)
    assert given["infarct"].t1_ms < given["myocardium"].t1_ms < table["myocardium"].t1_ms
    tissue = given["myocardium"]
    ti = null_time(tissue, LGE)

    def seen(at_ms: float, t1_ms: float) -> float:
        return float(
            phase_sensitive(
                1.0, t1_ms, 30.0, tr_ms=LGE.tr_ms, te_ms=LGE.te_ms, ti_ms=at_ms, flip_deg=LGE.flip_deg,
                n_shots=LGE.n_shots or 1, shot_ms=LGE.shot_ms or 0.0,
            )
        )  # fmt: skip

    assert abs(seen(ti, tissue.t1_ms)) < 1e-4
    assert seen(ti - 30, tissue.t1_ms) < 0 < seen(ti + 30, tissue.t1_ms)
    assert seen(ti, given["no_reflow"].t1_ms) < 0 < seen(ti, given["infarct"].t1_ms)
    for examination in enhancements:
        assert examination.ti_ms is not None
        assert 150 < examination.ti_ms < 400


def test_the_affine_is_oblique_and_has_the_spacing(cines: dict[str, Examination]) -> None:
    for centre in CINE:
        examination = cines[centre.name]
        size = np.linalg.norm(examination.affine[:3, :3], axis=0)
        assert_allclose(size, (centre.in_plane_mm, centre.in_plane_mm, centre.spacing_mm))
        directions = examination.affine[:3, :3] / size
        assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
        assert np.abs(directions).max() < 0.99  # along no axis of the patient
        towards_apex = directions[:, 2] * (1 if centre.first_slice == "base" else -1)
        assert towards_apex[0] < 0 < towards_apex[1]  # to the left and forwards
        labels = examination.scans[0].labels
        cavity = (labels == 1).sum((0, 1))
        seen = np.flatnonzero(cavity)
        first, last = cavity[seen[0]], cavity[seen[-1]]
        assert (first > last) == (centre.first_slice == "base")


def test_breath_holds_shift_slices_in_both_frames_alike(cines: dict[str, Examination]) -> None:
    shifts = cines["ivy"].shifts_mm
    assert 0.3 < shifts.std() < 3
    assert np.abs(shifts).max() <= 4


def test_the_same_seed_gives_the_same_stack_and_another_person_another() -> None:
    one, again, other = (examine(CINE[4], seed=s, number=2, in_plane_mm=4.0) for s in (1, 1, 2))
    assert one.scans[1].image.tobytes() == again.scans[1].image.tobytes()
    assert one.heart.lv_edv_ml != other.heart.lv_edv_ml

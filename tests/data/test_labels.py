"""Labels stay on their images: oblique stacks, any order of storage, other voxel sizes, and the way back."""

from dataclasses import replace

import numpy as np
import pytest

from heads import grid_affine
from heart_files import BASE_TO_APEX, ball, short_axis, write_heart
from polysite.config.prepare import Prepare
from polysite.data.labels import labels_of, native_labels, resample_labels, whole_numbers
from polysite.data.orient import canonical_affine, from_canonical, slices_of, to_canonical
from polysite.data.prepare import prepare_case, prepare_site
from polysite.data.resample import Grid
from polysite.errors import DataError
from polysite.image import Image, read_image, write_image

CODES = ["RAS", "LPS", "LAS", "SRA", "PIL", "ASL", "IRP"]
SPACING = (1.5, 1.4, 8.0)


def stored(codes, along=BASE_TO_APEX):
    """Shape and affine of a stack of odd sizes whose slices are on the axis of the letter S or I."""
    place = ["RLAPSI".index(letter) // 2 for letter in codes]
    shape = tuple((41, 37, 9)[k] for k in place)
    return shape, short_axis(shape, tuple(SPACING[k] for k in place), codes, along)


# --- orientation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", CODES)
def test_slices_become_z_however_they_are_stored_and_go_back_exactly(codes):
    shape, affine = stored(codes)
    orientation = slices_of(affine)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    turned = to_canonical(array, orientation)
    there = canonical_affine(affine, orientation, shape)
    assert turned.shape == (41, 37, 9)
    np.testing.assert_array_equal(from_canonical(turned, orientation), array)
    np.testing.assert_allclose(there, short_axis(spacing=SPACING), atol=1e-9)
    assert np.linalg.det(there[:3, :3]) > 0, "nothing is mirrored"


@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (0.2, -0.15, 0.1), (-0.15, 0.2, -0.2), (0.1, 0.2, 0.25)])
def test_hearts_that_lie_differently_are_turned_the_same_way(tilt):
    along = BASE_TO_APEX + np.asarray(tilt)
    for codes in ("RAS", "LPI"):
        shape, affine = stored(codes, along)
        there = canonical_affine(affine, slices_of(affine), shape)
        np.testing.assert_allclose(there, short_axis(spacing=SPACING, along=along), atol=1e-9)


@pytest.mark.parametrize(
    ("spacing", "axes"),
    [((1, 1, 5), "RAS"), ((1, 5, 1), "RSP"), ((5, 1, 1), "ASR"), ((1, 1, 1), "RAS")],
)
@pytest.mark.parametrize("codes", ["RAS", "LPI"])
def test_plain_slices_stand_as_they_are_looked_at(spacing, axes, codes):
    from nibabel import aff2axcodes

    affine = grid_affine((4, 5, 6), spacing, codes)
    there = canonical_affine(affine, slices_of(affine), (4, 5, 6))
    assert "".join(aff2axcodes(there)) == axes


@pytest.mark.parametrize("codes", ["RAS", "SRA", "LPI"])
def test_a_single_slice_is_one_slice_however_thin_its_header_says_it_is(codes):
    place = ["RLAPSI".index(letter) // 2 for letter in codes]
    shape = tuple((41, 37, 1)[k] for k in place)
    affine = short_axis(shape, tuple((1.5, 1.5, 1.0)[k] for k in place), codes)
    array = np.arange(np.prod(shape)).reshape(shape)
    orientation = slices_of(affine, shape)
    assert to_canonical(array, orientation).shape == (41, 37, 1)
    np.testing.assert_array_equal(from_canonical(to_canonical(array, orientation), orientation), array)
    assert np.linalg.det(canonical_affine(affine, orientation, shape)[:3, :3]) > 0


# --- the values of label images -----------------------------------------------------------------------


def test_labels_are_whole_numbers(tmp_path):
    values = np.zeros((4, 4, 4), np.float32)
    values[1, 1, 1], values[2, 2, 2] = 3.0004, 300
    labels = whole_numbers(Image(values, np.eye(4), path=tmp_path / "a.nii"))
    assert (labels.dtype, set(np.unique(labels))) == (np.uint16, {0, 3, 300})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"a\.nii: has 1 values that are no labels \(0.5\)"),
        (-1, r"no labels \(-1\)"),
        (70_000, r"no labels \(70000\)"),
        (np.nan, "1 NaN or infinite"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, value, message):
    values = np.zeros((4, 4, 4), np.float32)
    values[1, 1, 1] = value
    with pytest.raises(DataError, match=message):
        whole_numbers(Image(values, np.eye(4), path=tmp_path / "a.nii"))


@pytest.mark.parametrize("codes", CODES)
def test_labels_stored_in_another_order_are_turned_to_their_image(codes, tmp_path):
    shape, affine = stored(codes)
    image = Image(100 * ball(shape, affine), affine)
    label = Image(ball((41, 37, 9), short_axis(spacing=SPACING)), short_axis(spacing=SPACING))
    np.testing.assert_array_equal(labels_of(label, image) * 100, image.array)
    moved = short_axis(spacing=SPACING)
    moved[0, 3] += 2
    with pytest.raises(DataError, match=r"is not on the grid of .*: as many voxels, but up to 2 mm"):
        labels_of(replace(label, affine=moved, path=tmp_path / "l.nii"), image)
    with pytest.raises(DataError, match=r"8.* voxels instead of .*9"):
        labels_of(replace(label, array=label.array[:, :, :8]), image)


# --- another grid -------------------------------------------------------------------------------------


def test_no_value_is_invented_and_the_larger_share_wins():
    labels = np.zeros((8, 1, 1), np.uint16)
    labels[2:5], labels[5:] = 1, 4
    finer = Grid((8, 1, 1), np.eye(4)).with_spacing((0.25, None, None))
    found = resample_labels(labels, np.eye(4), finer)
    np.testing.assert_array_equal(found, np.repeat(labels, 4, axis=0))
    shifted = np.eye(4)
    shifted[0, 3] = 0.3  # voxels are shared 0.7 to 0.3: the nearest, and never 2 or 3 between 1 and 4
    np.testing.assert_array_equal(resample_labels(labels, np.eye(4), Grid((7, 1, 1), shifted)), labels[:7])
    away = np.diag([1.0, 1, 1, 1])
    away[0, 3] = 50
    assert not resample_labels(labels, np.eye(4), Grid((8, 1, 1), away)).any()


def test_the_same_grid_keeps_every_label():
    labels = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.uint16)
    assert resample_labels(labels, np.eye(4), Grid((5, 6, 7), np.eye(4))) is labels


def test_an_axis_whose_size_is_right_but_for_rounding_stays():
    grid = Grid((240, 216, 12), np.diag([1.2500001, 1.4, 10.0000002, 1.0]))
    other = grid.with_spacing((1.25, 1.25, None))
    assert other.shape == (240, 242, 12)
    np.testing.assert_array_equal(other.spacing_mm[[0, 2]], grid.spacing_mm[[0, 2]])


# --- prepared parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", CODES)
def test_a_part_is_prepared_with_its_labels_in_place(codes, tmp_path):
    shape, affine = stored(codes)
    (part,) = write_heart(tmp_path, affine=affine, shape=shape).parts()
    case = prepare_case(part, Prepare(), tmp_path / "cache")
    assert (case.key, case.part, case.contrasts) == ("sub-01_ED", "ED", ("ED",))
    np.testing.assert_allclose(case.grid.spacing_mm, (1.25, 1.25, 8.0), rtol=1e-6)
    volume, labels = np.asarray(case.volume("ED"), np.float32), case.labels()
    assert (labels.dtype, labels.shape) == (np.uint8, volume.shape)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    # an image of 100, 200 and 300: half way between the background and the outer labels is their border
    low = volume.min()
    step = (np.float32(part.image("ED").array.max()) / 3) / case.record["steps"]["ED"]["percentiles"][
        "deviation"
    ]
    value = (volume - low) / step
    for label, clear in ((0, 0.45), (2, 0.45)):
        pure = np.abs(value - label) < clear
        agree = (labels == label)[pure].mean()
        assert agree > (0.99 if label == 0 else 0.9)
    assert (value[labels == 3] > 1.4).mean() > 0.95
    before, after = case.record["labels"]["native_ml"], case.record["labels"]["prepared_ml"]
    assert before["1"] == pytest.approx(after["1"], rel=0.03)


def test_labels_and_image_agree_voxel_by_voxel_where_the_image_is_the_label(tmp_path):
    affine = short_axis()
    case = write_heart(tmp_path, affine=affine)
    for path, gain in ((case.images["ED"], 100), (case.labels["ED"], 1)):
        write_image(Image(gain * (ball((41, 37, 9), affine) == 1), affine, None, 1, 2), path)
    settings = Prepare(percentiles=(0, 100), normalisation="range", spacing_mm=(0.9, 1.1, 3.0))
    prepared = prepare_case(case.parts()[0], settings, tmp_path / "cache")
    volume = np.asarray(prepared.volume("ED"), np.float32)
    clear = np.abs(volume) > 1e-3
    np.testing.assert_array_equal((volume > 0)[clear], (prepared.labels() == 1)[clear])
    assert clear.mean() > 0.99


def test_on_an_unchanged_grid_labels_and_values_come_back_exactly(tmp_path):
    shape, affine = stored("PIL")
    (part,) = write_heart(tmp_path, affine=affine, shape=shape).parts()
    case = prepare_case(part, Prepare(spacing_mm=(None, None, None)), tmp_path / "cache")
    np.testing.assert_array_equal(case.to_native(case.labels()).array, native_labels(part, "ED"))
    image = read_image(part.images["ED"])
    back = case.to_native(case.volume("ED"))
    np.testing.assert_array_equal(back.affine, image.affine)
    step = case.record["steps"]["ED"]["percentiles"]
    clipped = np.clip(image.array.astype(np.float64), step["low"], step["high"])
    expected = ((clipped - clipped.mean()) / clipped.std()).astype(np.float32).astype(np.float16)
    np.testing.assert_array_equal(back.array, expected)


@pytest.mark.parametrize("codes", CODES)
def test_labels_come_back_from_another_voxel_size_but_for_their_borders(codes, tmp_path):
    shape, affine = stored(codes)
    (part,) = write_heart(tmp_path, affine=affine, shape=shape).parts()
    case = prepare_case(part, Prepare(), tmp_path / "cache")
    shares = [
        case.to_native((case.labels() == value).astype(np.float32), outside=0).array for value in range(4)
    ]
    back, truth = np.argmax(shares, axis=0), native_labels(part, "ED")
    for value in (1, 2, 3):
        both = (
            2 * ((back == value) & (truth == value)).sum() / ((back == value).sum() + (truth == value).sum())
        )
        assert both > 0.95


def test_a_z_score_has_mean_0_and_deviation_1_after_clipping(tmp_path):
    (part,) = write_heart(tmp_path).parts()
    image = read_image(part.images["ED"])
    array = np.random.default_rng(0).gamma(2, 300, image.shape).astype(np.float32)
    array[0, 0, :3] = 3e7  # a spike, beyond what float16 holds
    write_image(image.with_array(array), part.images["ED"])
    keep = (None, None, None)
    case = prepare_case(part, Prepare(spacing_mm=keep, percentiles=(1, 96)), tmp_path / "cache")
    volume = np.asarray(case.volume("ED"), np.float64)
    assert (volume.mean(), volume.std()) == pytest.approx((0, 1), abs=2e-3)
    assert np.unique(volume[volume == volume.max()]).size == 1
    assert (volume == volume.max()).mean() == pytest.approx(0.04, abs=0.005)
    spiked = prepare_case(part, Prepare(spacing_mm=keep, percentiles=(0, 100)), tmp_path / "cache")
    assert np.isfinite(np.asarray(spiked.volume("ED"))).all()


def test_large_labels_keep_their_values_and_a_part_without_has_none(tmp_path):
    case = write_heart(tmp_path, names=("ED", "ES"))
    label = read_image(case.labels["ED"])
    write_image(label.with_array(label.array * 1000), case.labels["ED"], dtype="int16")
    ed, es = replace(case, labels={"ED": case.labels["ED"]}).parts()
    prepared = prepare_case(ed, Prepare(), tmp_path / "cache")
    assert prepared.labels().dtype == np.uint16
    assert set(np.unique(prepared.labels())) == {0, 1000, 2000, 3000}
    assert prepare_case(es, Prepare(), tmp_path / "cache").labels() is None


def test_other_labels_are_another_entry_and_images_are_not_registered(tmp_path):
    case = write_heart(tmp_path, names=("ED", "ES"))
    parts = prepare_site(case.parts(), Prepare(registration="always"), tmp_path / "cache")
    assert [part.key for part in parts] == ["sub-01_ED", "sub-01_ES"]
    assert all(part.record["steps"][part.part]["registration"] is None for part in parts)
    label = read_image(case.labels["ED"])
    write_image(
        label.with_array(np.where(label.array == 3, 0, label.array)), case.labels["ED"], dtype="uint8"
    )
    again = prepare_site(case.parts(), Prepare(registration="always"), tmp_path / "cache")
    assert [new.folder == old.folder for new, old in zip(again, parts, strict=True)] == [False, True]


def test_labels_on_another_grid_are_refused(tmp_path):
    moved = short_axis()
    moved[2, 3] += 8
    (part,) = write_heart(tmp_path, label_affine=moved).parts()
    with pytest.raises(
        DataError, match=r"sub-01_ED_dseg\.nii\.gz: is not on the grid of .*sub-01_ED\.nii\.gz"
    ):
        prepare_case(part, Prepare(), tmp_path / "cache")


def test_whole_cases_have_the_settings_of_synthesis_and_parts_those_of_segmentation(tmp_path):
    case = write_heart(tmp_path)
    own = Prepare(mask="nonzero")
    whole = prepare_case(case, own, tmp_path / "cache").record["settings"]
    part = prepare_case(case.parts()[0], own, tmp_path / "cache").record["settings"]
    keys = ("axes", "spacing_mm", "normalisation", "mask")
    assert [whole[key] for key in keys] == ["canonical", [None] * 3, "range", "nonzero"]
    assert [part[key] for key in keys] == ["slices", [1.25, 1.25, None], "zscore", "nonzero"]
    assert Prepare().decided("synthesis").mask == "foreground"
    assert Prepare().decided("segmentation").decided("synthesis").axes == "slices", "what is decided stays"


# --- frames -------------------------------------------------------------------------------------------


def test_a_frame_is_prepared_as_the_same_frame_alone_and_comes_back_in_3_d(tmp_path):
    case = write_heart(tmp_path)
    alone = prepare_case(case.parts()[0], Prepare(), tmp_path / "cache")
    for path in (case.images["ED"], case.labels["ED"]):
        image = read_image(path)
        frames = np.stack([0 * image.array, image.array, 0 * image.array], axis=3)
        write_image(image.with_array(frames), path)
    (part,) = replace(case, frames={"ED": 1}).parts()
    prepared = prepare_case(part, Prepare(), tmp_path / "cache")
    np.testing.assert_array_equal(prepared.volume("ED"), alone.volume("ED"))
    np.testing.assert_array_equal(prepared.labels(), alone.labels())
    back = prepared.to_native(prepared.labels())
    assert back.shape == (41, 37, 9)
    write_image(back, tmp_path / "back.nii.gz", dtype="uint8")
    assert read_image(tmp_path / "back.nii.gz").shape == (41, 37, 9)
    with pytest.raises(DataError, match="has 3 frames, none with index 3"):
        prepare_case(replace(case, frames={"ED": 3}).parts()[0], Prepare(), tmp_path / "cache")

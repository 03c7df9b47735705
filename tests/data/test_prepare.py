"""From files to the cache and back to the file's own grid."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from polysite.config.prepare import Prepare
from polysite.data.cache import open_case
from polysite.data.prepare import prepare_case, prepare_site
from polysite.errors import DataError
from polysite.image import read_image, write_image


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_volumes_are_slice_first_float16_in_range(make_case, cache):
    case = prepare_case(make_case(), Prepare(), cache)
    assert case.contrasts == ("T1w", "T2w")
    assert (case.site, case.subject, case.session, case.key) == ("north", "01", None, "sub-01")
    for contrast in case.contrasts:
        volume = case.volume(contrast)
        assert isinstance(volume, np.memmap)
        assert (volume.dtype, volume.shape) == (np.float16, (31, 33, 38))
        assert volume.min() == -1
        assert volume.max() == 1
    assert case.mask().shape == (31, 33, 38)
    with pytest.raises(DataError, match="has no FLAIR; it has T1w, T2w"):
        case.volume("FLAIR")


def test_percentiles_inside_the_mask_become_minus_one_and_one(make_case, cache):
    source = make_case()
    case = prepare_case(source, Prepare(percentiles=(5, 95), mask="none"), cache)
    array = np.transpose(read_image(source.images["T1w"]).array, (2, 0, 1))
    low, high = np.percentile(array, (5, 95))
    expected = np.clip(2 * (array - low) / (high - low) - 1, -1, 1)
    np.testing.assert_allclose(case.volume("T1w"), expected, atol=1e-3)
    step = case.record["steps"]["T1w"]["percentiles"]
    assert (step["low"], step["high"]) == pytest.approx((low, high))


def test_a_source_alone_is_prepared_as_it_is_beside_its_target(make_case, cache):
    whole = make_case()
    both = prepare_case(whole, Prepare(), cache)
    alone = prepare_case(replace(whole, images={"T1w": whole.images["T1w"]}), Prepare(), cache)
    np.testing.assert_array_equal(alone.volume("T1w"), both.volume("T1w"))


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PSR", "ILA"])
def test_back_on_the_native_grid_every_value_is_where_it_was(make_case, cache, codes):
    own = {"codes": codes, "shape": (33, 38, 31)}
    source = make_case(T1w=own, T2w=own)
    case = prepare_case(source, Prepare(), cache)
    image = case.to_native(case.volume("T1w"), contrast="T1w")
    stored = read_image(source.images["T1w"])
    np.testing.assert_array_equal(image.affine, stored.affine)
    assert (image.shape, image.contrast) == (stored.shape, "T1w")
    assert (image.sform_code, image.qform_code) == (1, 2)
    step = case.record["steps"]["T1w"]["percentiles"]
    expected = np.clip(2 * (stored.array - step["low"]) / (step["high"] - step["low"]) - 1, -1, 1)
    np.testing.assert_array_equal(image.array, expected.astype(np.float16))


def test_a_written_prediction_has_the_bytes_of_geometry_of_its_source(make_case, cache, tmp_path):
    import nibabel

    source = make_case(T1w={"codes": "LPS"})
    case = prepare_case(source, Prepare(), cache)
    write_image(case.to_native(case.volume("T1w")), tmp_path / "out.nii.gz")
    own, out = nibabel.load(source.images["T1w"]).header, nibabel.load(tmp_path / "out.nii.gz").header
    for name in (
        "pixdim",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "qoffset_x",
        "sform_code",
        "qform_code",
    ):
        np.testing.assert_array_equal(own[name], out[name], err_msg=name)


def test_another_voxel_size_comes_back_to_the_native_shape(make_case, cache):
    source = make_case()
    case = prepare_case(source, Prepare(spacing_mm=(2.0, 2.0, 2.0)), cache)
    np.testing.assert_allclose(case.grid.spacing_mm, 2.0)
    image = case.to_native(case.volume("T1w"), outside=-5)
    stored = read_image(source.images["T1w"])
    assert image.shape == stored.shape
    assert image.array.min() >= -1  # nothing is outside
    step = case.record["steps"]["T1w"]["percentiles"]
    expected = np.clip(2 * (stored.array - step["low"]) / (step["high"] - step["low"]) - 1, -1, 1)
    assert np.abs(image.array - expected).mean() < 0.05
    np.testing.assert_array_equal(case.to_native(np.full(case.mask().shape, 0.25)).array, np.float32(0.25))


def test_a_single_frame_keeps_its_four_dimensions(make_case, cache):
    source = make_case(contrasts=("T1w",))
    image = read_image(source.images["T1w"])
    write_image(image.with_array(image.array[..., None]), source.images["T1w"])
    case = prepare_case(source, Prepare(), cache)
    assert case.to_native(case.volume("T1w")).shape == (33, 38, 31, 1)


def test_another_shape_is_refused(make_case, cache):
    case = prepare_case(make_case(), Prepare(), cache)
    with pytest.raises(DataError, match=r"shape \(33, 38, 31\) is not on the prepared grid \(31, 33, 38\)"):
        case.to_native(np.zeros((33, 38, 31)))


def test_contrasts_on_other_grids_are_registered_and_the_quality_is_recorded(make_case, cache):
    shift = np.eye(4)
    shift[:3, 3] = (-4, 3, 2)
    other = {"shape": (40, 46, 31), "spacing": (2.5, 2.5, 3.0), "moved": shift}
    source = make_case(T2w=other)
    case = prepare_case(source, Prepare(), cache)
    step = case.record["steps"]["T2w"]
    assert step["resampled"]
    assert step["registration"]["information_after"] > step["registration"]["information_before"]
    np.testing.assert_allclose(step["registration"]["transform"], np.linalg.inv(shift), atol=0.5)
    still = prepare_case(make_case("02"), Prepare(), cache)
    apart = np.abs(np.asarray(case.volume("T2w"), np.float32) - still.volume("T2w")).mean()
    unregistered = prepare_case(source, Prepare(registration="never"), cache)
    apart_before = np.abs(np.asarray(unregistered.volume("T2w"), np.float32) - still.volume("T2w")).mean()
    assert unregistered.record["steps"]["T2w"]["registration"] is None
    assert apart < apart_before / 3


def test_the_mask_leaves_out_what_a_contrast_does_not_reach(make_case, cache):
    short = {"shape": (33, 38, 15)}  # half the slices about the centre
    case = prepare_case(make_case(T2w=short), Prepare(registration="never"), cache)
    seen = np.flatnonzero(case.mask().any(axis=(1, 2)))
    assert (seen[0], seen[-1]) == (8, 22)
    assert (np.asarray(case.volume("T2w"))[:7] == -1).all()
    assert case.record["steps"]["T2w"]["reach"] < 0.8


def test_small_negative_values_are_clipped_and_large_ones_kept(make_case, cache):
    source = make_case()
    for contrast, change in (("T1w", 0.01), ("T2w", 0.5)):
        image = read_image(source.images[contrast])
        array = image.array.copy()
        brain = np.flatnonzero(array > 100)
        array.flat[brain[: int(change * len(brain))]] *= -1
        write_image(image.with_array(array), source.images[contrast])
    steps = prepare_case(source, Prepare(mask="nonzero"), cache).record["steps"]
    assert steps["T1w"]["negative"]["clipped"]
    assert steps["T1w"]["percentiles"]["low"] == 0
    assert not steps["T2w"]["negative"]["clipped"]
    assert steps["T2w"]["percentiles"]["low"] < -100


# --- the cache ----------------------------------------------------------------------------------------


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_again_redoes_nothing_even_for_a_copied_or_touched_data_set(make_case, cache, tmp_path):
    source = make_case()
    prepare_case(source, Prepare(), cache)
    before = stamps(cache)
    source.images["T1w"].touch()
    shutil.copytree(tmp_path / "scans", tmp_path / "elsewhere")
    copied = {
        name: tmp_path / "elsewhere" / path.relative_to(tmp_path / "scans")
        for name, path in source.images.items()
    }
    prepare_case(replace(source, images=copied), Prepare(), cache)
    assert stamps(cache) == before


def test_other_settings_or_other_content_are_prepared_apart(make_case, cache):
    source = make_case()
    first = prepare_case(source, Prepare(), cache)
    other = prepare_case(source, Prepare(percentiles=(1, 99)), cache)
    image = read_image(source.images["T1w"])
    write_image(image.with_array(image.array * 2), source.images["T1w"])
    edited = prepare_case(source, Prepare(), cache)
    assert len({first.folder, other.folder, edited.folder}) == 3


@pytest.mark.parametrize("damage", ["cut", "edited", "gone", "record", "record edited"])
def test_a_damaged_entry_is_refused_and_prepared_again(make_case, cache, damage):
    source = make_case()
    case = prepare_case(source, Prepare(), cache)
    good = np.array(case.volume("T1w"))
    path, record = case.folder / "T1w.npy", case.folder / "case.json"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "edited":
        path.write_bytes(content[:-2] + b"\x00\x3c")
    elif damage == "gone":
        path.unlink()
    elif damage == "record":
        record.write_text(record.read_text()[:-20])
    else:
        record.write_text(json.dumps(json.loads(record.read_text()) | {"reference": "T2w"}))
    with pytest.raises(DataError, match=r"sub-01.*prepare again"):
        open_case(case.folder)
    again = prepare_case(source, Prepare(), cache)
    np.testing.assert_array_equal(again.volume("T1w"), good)


def test_a_copied_cache_is_good(make_case, cache, tmp_path):
    case = prepare_case(make_case(), Prepare(), cache)
    shutil.copytree(case.folder, tmp_path / "copy", copy_function=shutil.copy)  # new times, the same content
    assert open_case(tmp_path / "copy").record == case.record


def test_a_failure_leaves_no_entry(make_case, cache, monkeypatch):
    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(DataError, match="No space left on device"):
        prepare_case(make_case(), Prepare(), cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: np.full_like(array, 3), "constant inside its mask"),
        (lambda array: np.stack([array] * 2, 3), "must be one 3-D volume"),
        (lambda array: np.where(array > 900, np.nan, array), "NaN or infinite"),
    ],
)
def test_what_cannot_be_prepared_is_named(make_case, cache, change, message):
    source = make_case()
    image = read_image(source.images["T2w"])
    write_image(image.with_array(change(image.array)), source.images["T2w"])
    with pytest.raises(DataError, match=rf"sub-01_T2w\.nii\.gz: .*{message}"):
        prepare_case(source, Prepare(), cache)


def test_a_site_keeps_its_order_and_tells_its_progress(make_case, cache):
    cases = [make_case("02"), make_case("01")]
    told: list[str] = []
    prepared = prepare_site(cases, Prepare(), cache, progress=told.append)
    assert [case.key for case in prepared] == ["sub-02", "sub-01"]
    assert len(told) == 2
    with pytest.raises(DataError, match="sub-02 is there twice"):
        prepare_site([cases[0], cases[0]], Prepare(), cache)


@pytest.mark.slow
def test_processes_give_the_same_bytes(make_case, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("polysite.data.prepare.WORTHWHILE_S", 0)
    cases = [make_case("01"), make_case("02"), make_case("03")]
    told: list[str] = []
    prepare_site(cases, Prepare(), tmp_path / "serial")
    prepare_site(cases, Prepare(), cache, workers=2, progress=told.append)
    assert told == [f"north: preparing {case.key}" for case in cases]
    for one, two in zip(
        sorted((tmp_path / "serial").rglob("*.npy")), sorted(cache.rglob("*.npy")), strict=True
    ):
        assert one.read_bytes() == two.read_bytes()

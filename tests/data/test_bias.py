"""The shading that N4 finds in phantom heads, beside the one that was put in."""

import numpy as np
import pytest

from polysite.config.prepare import Preparation, Prepare
from polysite.data.bias import field_of, log_field
from polysite.data.mask import foreground
from polysite.data.prepare import prepare_case
from polysite.data.single import oriented
from polysite.errors import DataError
from polysite.image import Image, read_image, write_image
from polysite.phantom.examination import examine, image_grid
from polysite.phantom.hospital import hospital_named
from polysite.phantom.random import stream
from polysite.phantom.scanner import draw_bias
from polysite.phantom.tissue import TISSUES

WHITE, GREY = TISSUES.index("white_matter"), TISSUES.index("grey_matter")


@pytest.fixture(scope="module")
def shaded():
    """A phantom head's first contrast, its labels, and the shading that was drawn for it."""
    hospital = hospital_named("abbey")
    contrast = hospital.contrasts[0]
    seen = examine(hospital, (contrast,), seed=5, number=1, voxel_mm=5.0)
    grid = image_grid(hospital, 5.0)
    truth = draw_bias(stream(5, "abbey", 1, contrast), grid, strength=hospital.bias)
    image = Image(np.asarray(seen.scans[0].image, np.float32), grid.affine, contrast)
    return image, seen.labels, truth


@pytest.fixture(scope="module")
def found(shaded):
    image, _, _ = shaded
    spacing = np.asarray(image.spacing_mm)
    mask, _ = foreground(image.array, spacing, "foreground")
    return mask, log_field(image.array, spacing, mask)


def variation(values):
    return values.std() / values.mean()


def test_the_field_is_the_one_that_was_put_in(shaded, found):
    image, labels, truth = shaded
    field = field_of(found[1], image.shape, np.asarray(image.spacing_mm))
    brain = (labels == WHITE) | (labels == GREY)
    assert np.corrcoef(np.log(field[brain]), np.log(truth[brain]))[0, 1] > 0.8
    rest = np.log(field[brain] / truth[brain])
    assert rest.std() < 0.7 * np.log(truth[brain]).std()


def test_white_matter_varies_less_without_it(shaded, found):
    image, labels, truth = shaded
    field = field_of(found[1], image.shape, np.asarray(image.spacing_mm))
    white = labels == WHITE
    before, after, best = (
        variation(volume[white]) for volume in (image.array, image.array / field, image.array / truth)
    )
    assert after < before
    assert before - after > 0.5 * (before - best)


def test_the_head_keeps_its_brightness(shaded, found):
    mask, log = found
    field = field_of(log, shaded[0].shape, np.asarray(shaded[0].spacing_mm))
    assert abs(np.log(field[mask]).mean()) < 0.01


def test_the_same_bits_with_any_number_of_threads(shaded, found):
    import SimpleITK as sitk

    image, mask = shaded[0], found[0]
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        for n in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n)
            again = log_field(image.array, np.asarray(image.spacing_mm), mask)
            assert again.tobytes() == found[1].tobytes()
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@pytest.mark.parametrize(("shape", "spacing"), [((20, 24, 16), (4, 4, 4)), ((37, 50, 11), (1.7, 1.3, 6.0))])
def test_a_linear_field_on_blocks_is_linear_between_them(shape, spacing):
    spacing = np.asarray(spacing)
    step = np.maximum(1, np.ceil(4 / spacing - 0.3)).astype(int)
    blocks = np.indices([-(-n // s) for n, s in zip(shape, step, strict=True)])
    log = 0.01 * ((blocks[0] + 0.5) * step[0] - 0.5)
    whole = np.log(field_of(log.astype(np.float16), shape, spacing))
    voxels = np.arange(shape[0])
    inner = (voxels >= step[0]) & (voxels < shape[0] - step[0])
    np.testing.assert_allclose(whole[inner, 3, 3], 0.01 * voxels[inner], atol=1e-3)


def test_a_brighter_scan_has_the_same_field(shaded, found):
    image, mask = shaded[0], found[0]
    twice = log_field(2 * image.array, np.asarray(image.spacing_mm), mask)
    np.testing.assert_allclose(twice.astype(float), found[1].astype(float), atol=0.01)


def test_it_is_recorded_and_off_by_default(make_case, tmp_path):
    case = make_case()
    plain = prepare_case(case, Prepare(), tmp_path / "cache").record
    step = prepare_case(case, Prepare(bias="n4"), tmp_path / "cache").record["steps"]["T1w"]["bias"]
    assert plain["steps"]["T1w"]["bias"] is None
    assert (step["method"], step["block_mm"]) == ("n4", 4.0)
    assert step["least"] < 1 < step["most"]


def test_a_volume_without_a_background_of_zero_is_refused(make_case):
    path = make_case().images["T1w"]
    image = read_image(path)
    write_image(image.with_array(image.array - 300), path)
    with pytest.raises(DataError, match=r"sub-01_T1w\.nii\.gz: has negative values.*use bias: none"):
        oriented(read_image(path), Preparation(bias="n4"))


def test_too_little_to_look_at_is_said():
    array = np.zeros((16, 16, 16), np.float32)
    array[4, 4, 4] = 1
    with pytest.raises(DataError, match="too few positive values"):
        log_field(array, np.ones(3), array > 0)

"""Slow steps are done again exactly if something that they look at has changed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from polysite.config.prepare import Prepare
from polysite.data import mask, prepare, single
from polysite.data.prepare import prepare_case, prepare_site
from polysite.data.steps import Steps, digest_of, packed, unpacked
from polysite.errors import DataError
from polysite.image import read_image, write_image

FIRST = {"mask": 2, "registration": 1}
"""What a case of two contrasts on two grids takes."""


@pytest.fixture
def calls(monkeypatch):
    """Counts how often each slow step is really done, and how often an image is opened."""
    count: Counter[str] = Counter()

    def counted(module, name, kind):
        real = getattr(module, name)

        def call(*arguments, **named):
            count[kind] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, call)

    counted(mask, "is_brain_extracted", "mask")
    counted(single, "log_field", "bias")
    counted(prepare, "register", "registration")
    return count


@pytest.fixture
def two_grids(make_case):
    return make_case(T2w={"shape": (40, 46, 31), "spacing": (2.5, 2.5, 3.0)})


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"spacing_mm": (4.0, 4.0, 4.0)}, {}),
        ({"normalisation": "zscore"}, {}),
        ({"percentiles": (2, 98)}, {}),
        ({"registration": "never"}, {}),
        ({"registration": "always"}, {}),
        ({"reference": "T2w"}, {"registration": 1}),
        ({"transform": "affine"}, {"registration": 1}),
        ({"axes": "slices"}, {}),  # of upright heads they are the same
        ({"mask": "nonzero"}, {"registration": 1}),  # no slow step, but another head to register
        ({"bias": "n4"}, {"bias": 2, "registration": 1}),
    ],
)
def test_a_setting_redoes_what_depends_on_it(two_grids, tmp_path, calls, change, again):
    prepare_site([two_grids], Prepare(), tmp_path)
    assert calls == FIRST
    calls.clear()
    prepare_site([two_grids], Prepare(**change), tmp_path)
    assert calls == again


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"transform": "affine"}, {"registration": 1}),
        ({"registration": "never"}, {}),
        ({"spacing_mm": (4.0, 4.0, 4.0)}, {}),
        ({"normalisation": "zscore", "percentiles": (2, 98)}, {}),
        ({"mask": "none"}, {"bias": 2, "registration": 1}),
    ],
)
def test_a_bias_field_is_found_once(two_grids, tmp_path, calls, change, again):
    prepare_site([two_grids], Prepare(bias="n4"), tmp_path)
    assert calls == {**FIRST, "bias": 2}
    calls.clear()
    prepare_site([two_grids], Prepare(bias="n4", **change), tmp_path)
    assert calls == again


def test_another_image_redoes_its_own_mask_and_its_registration(two_grids, tmp_path, calls):
    prepare_site([two_grids], Prepare(), tmp_path)
    calls.clear()
    path = two_grids.images["T2w"]
    image = read_image(path)
    write_image(image.with_array(image.array * np.linspace(1, 1.2, image.shape[0])[:, None, None]), path)
    prepare_site([two_grids], Prepare(), tmp_path)
    assert calls == {"mask": 1, "registration": 1}


def test_nothing_is_done_and_no_image_opened_where_all_is_there(two_grids, tmp_path, calls, monkeypatch):
    prepare_site([two_grids], Prepare(), tmp_path)
    calls.clear()
    monkeypatch.setattr("polysite.data.case.read_image", lambda *_: pytest.fail("an image was opened"))
    prepare_site([two_grids], Prepare(), tmp_path)
    assert not calls


def test_what_is_remembered_gives_the_same_bytes(two_grids, tmp_path):
    kept = Steps(tmp_path / "steps")
    cases = [
        prepare_case(two_grids, Prepare(spacing_mm=(4.0, 4.0, 4.0)), tmp_path / name, steps=steps)
        for name, steps in (("anew", Steps()), ("first", kept), ("remembered", kept))
    ]
    for file in ("T1w.npy", "T2w.npy", "mask.npy"):
        assert len({(case.folder / file).read_bytes() for case in cases}) == 1
    assert len({json.dumps(case.record["steps"]) for case in cases}) == 1


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda text: text.replace("head", "none"), str.upper]
)
def test_a_damaged_outcome_is_done_again(two_grids, tmp_path, calls, damage):
    prepare_site([two_grids], Prepare(), tmp_path)
    calls.clear()
    path = sorted((tmp_path / "steps" / "mask").iterdir())[0]
    good = path.read_text()
    path.write_text(damage(good))
    prepare_site([two_grids], Prepare(percentiles=(1, 99)), tmp_path)
    assert calls == {"mask": 1}
    assert path.read_text() == good


def test_a_refusing_disk_is_named(tmp_path):
    (tmp_path / "steps").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"steps/mask/.*cannot be written"):
        Steps(tmp_path / "steps").outcome("mask", 1, {}, dict)


@pytest.mark.parametrize("shape", [(3, 5, 7), (8, 8, 8), (1, 1, 1)])
def test_arrays_come_back_bit_for_bit(shape):
    rng = np.random.default_rng(1)
    for array in (rng.random(shape) > 0.5, rng.random(shape), rng.random(shape).astype(np.float32)):
        back = unpacked(json.loads(json.dumps(packed(array))))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)


def test_digests_tell_values_shapes_types_and_names_apart():
    array = np.zeros((2, 3), np.float32)
    same = [{"a": array, "b": 1}, {"b": 1, "a": array.copy()}]
    others = [
        {"a": array.T, "b": 1},
        {"a": array.astype(np.int32), "b": 1},
        {"a": array, "b": 2},
        {"b": array, "a": 1},
    ]
    assert len({digest_of(content) for content in same}) == 1
    assert len({digest_of(content) for content in same + others}) == 1 + len(others)


WORK = """
import sys
from pathlib import Path
from polysite.config.prepare import Prepare
from polysite.data.case import Case
from polysite.data.prepare import prepare_site
root, cache = map(Path, sys.argv[1:])
cases = [
    Case("north", s, None, {c: root / f"sub-{s}/anat/sub-{s}_{c}.nii.gz" for c in ("T1w", "T2w")}, root)
    for s in ("01", "02")
]
prepare_site(cases, Prepare(), cache)
"""


def test_two_processes_may_work_on_one_cache(make_case, tmp_path):
    over = {"T2w": {"shape": (40, 46, 31), "spacing": (2.5, 2.5, 3.0)}}
    cases = [make_case("01", **over), make_case("02", **over)]
    command = [sys.executable, "-c", WORK, str(tmp_path / "scans"), str(tmp_path / "cache")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    prepare_site(cases, Prepare(), tmp_path / "alone")

    def content(cache: Path) -> dict[str, bytes]:
        files = [*cache.glob("prepared/*/*.npy"), *cache.glob("steps/*/*")]
        return {str(path.relative_to(cache)): path.read_bytes() for path in files}

    assert content(tmp_path / "cache") == content(tmp_path / "alone")
    assert len(content(tmp_path / "alone")) == 2 * 3 + 2 * 3
    assert not [path for path in (tmp_path / "cache").rglob("*") if ".tmp" in path.name]

"""Nobody is in two splits, whatever the numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysite.config.run import Split
from polysite.data.split import load_splits, save_splits, split_subjects
from polysite.errors import DataError

people = st.lists(st.text("abc019", min_size=1, max_size=4), min_size=1, max_size=40, unique=True)


@given(people, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 2**40))
def test_splits_partition_the_subjects(subjects, validation, test, seed):
    validation *= 1 - test
    split = split_subjects({"a": subjects}, Split(validation=validation, test=test), seed)["a"]
    parts = [set(split[name]) for name in ("train", "validation", "test")]
    assert sorted(subject for part in parts for subject in part) == sorted(subjects)
    assert parts[0]
    n = len(subjects)
    if test > 0 and n >= 2:
        assert parts[2]
    if test == 0:
        assert not parts[2]
    if round(test * n) + round(validation * n) < n - 1 and n >= 4:
        assert len(parts[2]) == max(round(test * n), int(test > 0))
        assert len(parts[1]) == max(round(validation * n), int(validation > 0))


@given(people, st.integers(0, 99))
def test_a_draw_does_not_depend_on_order_or_other_sites(subjects, seed):
    settings = Split(validation=0.2, test=0.3)
    alone = split_subjects({"a": subjects}, settings, seed)["a"]
    beside = split_subjects({"b": ["x", "y"], "a": subjects[::-1] + subjects[:1]}, settings, seed)["a"]
    assert alone == beside


def test_seed_and_site_change_the_draw():
    subjects = [f"{n:02}" for n in range(40)]
    draws = [
        split_subjects({site: subjects}, Split(test=0.5), seed)[site]["test"]
        for site in "ab"
        for seed in (1, 2)
    ]
    assert len({tuple(draw) for draw in draws}) == 4


@pytest.mark.parametrize(("n", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (10, (7, 1, 2))])
def test_small_sites(n, expected):
    split = split_subjects({"a": [str(k) for k in range(n)]}, Split(validation=0.1, test=0.2), 7)["a"]
    assert tuple(len(split[name]) for name in ("train", "validation", "test")) == expected


def explicit(**parts):
    return split_subjects({"a": ["01", "02", "03"]}, Split(subjects={"a": parts}), 7)["a"]


def test_named_subjects_are_taken_as_named():
    assert explicit(train=["sub-03", "01"], test=["02"]) == {
        "train": ["01", "03"],
        "validation": [],
        "test": ["02"],
    }


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ["01"], "test": ["07"]}, r"split\.subjects\.a\.test: no subject '07'; it has 01, 02, 03"),
        ({"train": ["01", "02"], "test": ["sub-02"]}, r"'sub-02' is in 'train' and 'test'"),
        ({"test": ["01"]}, "names no training subject"),
    ],
)
def test_named_subjects_are_checked(parts, message):
    with pytest.raises(DataError, match=message):
        explicit(**parts)


def test_a_site_without_subjects_is_refused():
    with pytest.raises(DataError, match="a: has no subject"):
        split_subjects({"a": []}, Split(), 7)


def test_saved_splits_are_read_back(tmp_path):
    splits = split_subjects({"a": ["1", "2", "3"], "b": ["1"]}, Split(), 7)
    save_splits(tmp_path / "splits.json", splits)
    assert load_splits(tmp_path / "splits.json") == splits
    assert [path.name for path in tmp_path.iterdir()] == ["splits.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no file of splits"),
        ('{"a": {"train": ["1"]}}', "is no file of splits"),
        ('{"a": {"train": ["1"], "validation": [], "test": ["1"]}}', "subject '1' of site 'a' is in two"),
    ],
)
def test_a_file_of_splits_is_checked(tmp_path, text, message):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_splits(tmp_path / "splits.json")
    with pytest.raises(DataError, match="cannot be read"):
        load_splits(tmp_path / "none.json")

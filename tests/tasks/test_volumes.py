"""Labelled volumes as batches: classes, windows, epochs, pooled sites."""

import copy
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from heart_cases import HeartCase, heart_task
from polysite.config.site import Site
from polysite.config.sources import BidsData
from polysite.errors import ConfigError, DataError
from polysite.seeds import numpy_stream
from polysite.tasks.augment import Augment
from polysite.tasks.labelling import Labelling, labelling
from polysite.tasks.volumes import SiteVolumes, Volumes

IVY = Labelling(("background", "LV", "MYO", "RV"), (0, 1, 2, 3), ((), (1,), (2,), (3,)))


def site(**given: object) -> Site:
    return Site(data=BidsData(path="nowhere"), **given)  # type: ignore[arg-type]


def volumes(cases: list[HeartCase], **how: object) -> Volumes:
    return Volumes([SiteVolumes(IVY, cases, 24, **how)])  # type: ignore[arg-type]


def names(data: Volumes, seed: int, n_steps: int | None, batch_size: int) -> list[list[float]]:
    """The first voxel of every volume that each step sees: tells cases apart."""
    return [
        [float(image[0, 0, 0, 0]) for batch in step for image in batch.image]
        for step in data.batches(numpy_stream(seed, "order"), n_steps, batch_size)
    ]


# --- classes ------------------------------------------------------------------------------------------


def test_a_sites_own_classes_are_its_labels_in_order() -> None:
    given = labelling("nave", site(labels={"LV": 7, "MYO": 5, "scar": (6, 9)}))
    assert given.classes == ("background", "LV", "MYO", "scar")
    assert given.head == "LV-MYO-scar"
    assert given.groups == (0, 1, 2, 3)
    raw = np.array([[[0, 7, 5], [6, 9, 4]]])
    assert given.indices(raw).tolist() == [[[0, 1, 2], [3, 3, 0]]]  # 4 is no class
    assert given.indices(raw.astype(np.uint8)).dtype == np.int64


def test_with_one_list_the_sites_fill_in_what_they_label() -> None:
    given = labelling(
        "ivy", site(labels={"RV": 3, "LV": 1, "MYO": 2}, part_of={"scar": "MYO"}), ["LV", "MYO", "RV", "scar"]
    )
    assert given.classes == ("background", "LV", "MYO", "RV", "scar")
    assert given.groups == (0, 1, 2, 3, 2)
    assert given.indices(np.array([3, 2, 1, 0])).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ({"labels": {"LV": 1}}, ["MYO"], r"sites\.ivy: 'LV' is not one of the classes background, MYO"),
        ({"labels": {"LV": 1}, "part_of": {"scar": "LV"}}, None, r"sites\.ivy\.part_of: .*task\.classes"),
        ({"labels": {"LV": 1}, "part_of": {"a": "LV"}}, ["a", "LV"], r"must come before"),
    ],
)
def test_labels_that_do_not_fit_the_classes_are_told(given, classes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        labelling("ivy", site(**given), classes)


# --- windows ------------------------------------------------------------------------------------------


def test_a_window_that_fits_is_the_volume_itself() -> None:
    case = HeartCase()
    (batch,) = next(volumes([case]).batches(numpy_stream(0), 1, 1))
    assert batch.image.dtype == torch.float32
    assert torch.equal(batch.image[0, 0], torch.from_numpy(case.image.astype(np.float32)))
    assert torch.equal(batch.labels[0], torch.from_numpy(case.raw.astype(np.int64)))
    assert (batch.head, batch.groups) == ("LV-MYO-RV", None)


def test_a_smaller_window_is_about_the_centre_and_a_larger_one_is_padded_with_air() -> None:
    case = HeartCase(shape=(2, 31, 24))
    sample = SiteVolumes(IVY, [case], (21, 33)).take(0, 0)
    assert sample.image.shape == sample.labels.shape == (2, 21, 33)
    assert np.array_equal(sample.image[:, :, 5:29], case.image[:, 5:26].astype(np.float32))
    assert np.array_equal(sample.labels[:, :, 5:29], case.raw[:, 5:26])
    assert (sample.image[:, :, :5] == case.image.min()).all()
    assert not sample.labels[:, :, 29:].any()


def test_fewer_slices_are_a_run_of_neighbours_and_all_of_them_come() -> None:
    case = HeartCase(shape=(6, 24, 24))
    data = SiteVolumes(IVY, [case], 24, n_slices=2)
    firsts = set()
    for seed in range(40):
        sample = data.take(0, seed)
        (first,) = [
            z for z in range(5) if np.array_equal(sample.image, case.image[z : z + 2].astype(np.float32))
        ]
        assert np.array_equal(sample.labels, case.raw[first : first + 2])
        firsts.add(first)
    assert firsts == set(range(5))
    assert len(data.plain(0).image) == 6
    assert len(SiteVolumes(IVY, [case], 24, n_slices=9).take(0, 0).image) == 6


# --- epochs -------------------------------------------------------------------------------------------


def test_cases_without_labels_are_not_trained_on() -> None:
    data = volumes([HeartCase(seed=0), HeartCase(seed=1, labelled=False)])
    assert data.n_samples == 1
    none = volumes([HeartCase(labelled=False)])
    assert none.n_samples == 0
    with pytest.raises(DataError, match="label image"):
        next(none.batches(numpy_stream(0), 1, 1))


def test_an_epoch_has_every_volume_once_and_the_last_step_may_see_less() -> None:
    data = volumes([HeartCase(seed=seed) for seed in range(5)])
    steps = names(data, 0, None, 2)
    assert [len(step) for step in steps] == [2, 2, 1]
    assert len(set(chain(*steps))) == 5


def test_several_epochs_have_every_volume_once_before_any_comes_again() -> None:
    data = volumes([HeartCase(seed=seed) for seed in range(3)])
    seen = list(chain(*names(data, 0, 4, 2)))
    assert len(seen) == 8
    for start in (0, 3):
        assert len(set(seen[start : start + 3])) == 3


def test_the_stream_alone_decides_augmentation_included() -> None:
    cases = [HeartCase(seed=seed) for seed in range(3)]

    def round_(seed: int) -> list[torch.Tensor]:
        data = volumes(cases, augment=Augment(noise=1))
        return [batch.image for step in data.batches(numpy_stream(seed), 3, 1) for batch in step]

    assert all(torch.equal(a, b) for a, b in zip(round_(0), round_(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(round_(0), round_(1), strict=True))


def test_the_same_volume_is_changed_anew_each_time() -> None:
    data = volumes([HeartCase()], augment=Augment(noise=1))
    first, second = (batch.image for step in data.batches(numpy_stream(0), 2, 1) for batch in step)
    assert not torch.equal(first, second)


def test_cases_are_not_changed() -> None:
    case = HeartCase()
    before = copy.deepcopy(case)
    list(volumes([case], augment=Augment(mirror=1, noise=1, bias_field=1)).batches(numpy_stream(0), 3, 1))
    assert np.array_equal(case.image, before.image)
    assert np.array_equal(case.raw, before.raw)


# --- pooled -------------------------------------------------------------------------------------------


def pooled() -> Volumes:
    task = heart_task()
    ivy = task.data("ivy", [HeartCase(seed=seed) for seed in range(5)])
    nave = task.data("nave", [HeartCase(seed=9, scar=True, shape=(3, 24, 24))])
    return task.pool([ivy, nave])


def test_pooled_volumes_keep_their_sites_head() -> None:
    data = pooled()
    assert (data.n_members, data.n_samples) == (2, 6)
    steps = list(data.batches(numpy_stream(0), None, 3))
    assert [sum(len(batch) for batch in step) for step in steps] == [3, 3]
    heads = Counter({batch.head: 0 for step in steps for batch in step})
    for step in steps:
        assert len({batch.head for batch in step}) == len(step)
        for batch in step:
            heads[batch.head] += len(batch)
            assert batch.image.shape[2] == (4 if batch.head == "LV-MYO-RV" else 3)
            assert batch.labels.max() == 3
    assert heads == {"LV-MYO-RV": 5, "LV-MYO-scar": 1}


def test_a_pooled_round_is_as_long_as_all_their_rounds() -> None:
    heads: Counter[str] = Counter()
    for step in pooled().batches(numpy_stream(0), 4, 2):
        assert sum(len(batch) for batch in step) == 2
        for batch in step:
            heads[batch.head] += len(batch)
    assert heads == {"LV-MYO-RV": 8, "LV-MYO-scar": 8}


def test_volumes_of_different_depth_are_not_padded() -> None:
    data = volumes([HeartCase(shape=(3, 24, 24)), HeartCase(shape=(5, 24, 24)), HeartCase(shape=(3, 24, 24))])
    (step,) = data.batches(numpy_stream(0), 1, 3)
    assert sorted(tuple(batch.image.shape) for batch in step) == [(1, 1, 5, 24, 24), (2, 1, 3, 24, 24)]


def test_one_head_with_different_groups_is_one_batch() -> None:
    sites = {
        "ivy": {"labels": {"LV": 1, "MYO": 2, "RV": 3}},
        "oak": {"labels": {"LV": 1, "MYO": 2}},
    }
    task = heart_task(sites, classes=("LV", "MYO", "RV"))
    data = task.pool([task.data(name, [HeartCase(seed=index)]) for index, name in enumerate(sites)])
    ((batch,),) = data.batches(numpy_stream(0), None, 2)
    assert batch.groups is not None
    assert sorted(batch.groups.tolist()) == [[0, 1, 2, 0], [0, 1, 2, 3]]


def test_validation_has_every_volume_once_whole_and_unchanged() -> None:
    cases = [HeartCase(seed=seed) for seed in range(3)]
    data = volumes(cases, n_slices=2, augment=Augment(mirror=1, noise=1))
    found = [batch.image[0, 0].numpy() for batch in data.whole(numpy_stream(0), 16)]
    assert len(found) == 3
    for case in cases:
        assert any(np.array_equal(image, case.image.astype(np.float32)) for image in found)
    assert len(list(data.whole(numpy_stream(0), 2))) == 2
    assert len(list(pooled().whole(numpy_stream(0), 2))) == 3

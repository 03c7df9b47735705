"""From a run's YAML to prepared cases: phantoms of both kinds, splits, parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from heart_files import write_heart
from polysite.cases import (
    find_cases,
    make_phantoms,
    phantom_folder,
    prepare_cases,
    require_usable,
    split_cases,
)
from polysite.config.run import Run
from polysite.config.sources import PhantomData
from polysite.data.check import check_run
from polysite.errors import ConfigError, DataError
from polysite.phantom.kinds import KINDS

IVY = {"format": "phantom", "kind": "cardiac", "hospital": "ivy", "n_subjects": 2, "voxel_mm": 3.0}
LABELS = {"LV": 1, "MYO": 2, "RV": 3}


def a_run(cache: Path, sites: dict[str, Any], **over: Any) -> Run:
    return Run(
        **{
            "name": "hearts",
            "cache": cache,
            "contrasts": ["ED", "ES", "LGE"],
            "task": {"name": "segmentation"},
            "sites": sites,
            "split": {"test": 0.5},
            **over,
        }
    )


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A site of cine and one of late enhancement, generated into a cache."""
    nave = {**IVY, "hospital": "nave"}
    scar = {"LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4}
    run = a_run(
        tmp_path_factory.mktemp("hearts") / "cache",
        {"ivy": {"data": IVY, "labels": LABELS}, "nave": {"data": nave, "labels": scar}},
    )
    make_phantoms(run)
    return run


def test_cardiac_centres_are_found_with_their_labels(hearts: Run) -> None:
    found = find_cases(hearts)
    assert [case.key for case in found["ivy"]] == ["sub-ivy01", "sub-ivy02"]
    for case in found["ivy"]:
        assert [path.name for path in case.images.values()] == [
            f"{case.key}_rec-{frame}_cine.nii.gz" for frame in ("ED", "ES")
        ]
        assert list(case.labels) == ["ED", "ES"]
        assert case.labels["ES"].name == f"{case.key}_rec-ES_dseg.nii.gz"
    for case in found["nave"]:
        assert {name: path.name for name, path in case.labels.items()} == {"LGE": f"{case.key}_dseg.nii.gz"}
    assert {one.level for one in check_run(hearts, found)} <= {"warning"}, "no-reflow may be missing"
    require_usable(hearts, found)


def test_a_run_that_wants_one_frame_finds_one(hearts: Run) -> None:
    run = hearts.model_copy(update={"contrasts": ("ES", "LGE")})
    assert [list(case.images) for case in find_cases(run)["ivy"]] == [["ES"], ["ES"]]


def test_other_names_in_the_run_find_nothing_in_a_phantom(hearts: Run) -> None:
    run = hearts.model_copy(update={"contrasts": ("cine", "ES", "LGE")})
    assert [list(case.images) for case in find_cases(run)["ivy"]] == [["ES"], ["ES"]]
    with pytest.raises(
        ConfigError, match=r"sites\.ivy\.data: images of the cardiac phantom are called ED, ES, LGE"
    ):
        find_cases(hearts.model_copy(update={"contrasts": ("cine",)}))


def test_each_image_is_prepared_on_its_own(hearts: Run) -> None:
    found = find_cases(hearts)
    prepared = prepare_cases(hearts, found, split_cases(hearts, found))
    keys = {
        site: sorted(case.key for part in parts.values() for case in part) for site, parts in prepared.items()
    }
    assert keys == {
        "ivy": [f"sub-ivy0{n}_{frame}" for n in (1, 2) for frame in ("ED", "ES")],
        "nave": ["sub-nave01_LGE", "sub-nave02_LGE"],
    }
    assert {name: len(part) for name, part in prepared["ivy"].items()} == {
        "train": 2,
        "validation": 0,
        "test": 2,
    }
    sources = {part.key: part for cases in found.values() for case in cases for part in case.parts()}
    for case in (case for parts in prepared.values() for part in parts.values() for case in part):
        assert sources[case.key].part == case.part
        np.testing.assert_allclose(case.grid.spacing_mm[:2], 1.25, rtol=1e-4)
        labels, volume = case.labels(), np.asarray(case.volume(str(case.part)), np.float32)
        assert labels is not None
        assert {0, 1, 2} <= set(np.unique(labels)) <= {0, 1, 2, 3, 4}
        # blood is brighter than the wall around it: image and labels lie on one another
        assert volume[labels == 1].mean() > volume[labels == 2].mean() + 1


def test_a_phantoms_folder_depends_on_its_settings_and_its_kinds_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart, brain = PhantomData(**IVY), PhantomData(hospital="abbey")
    before = [phantom_folder(data, tmp_path) for data in (heart, brain)]
    assert phantom_folder(heart.model_copy(update={"seed": 8}), tmp_path) != before[0]
    changed = KINDS["cardiac"].__class__(**{**vars(KINDS["cardiac"]), "version": "next"})
    monkeypatch.setitem(KINDS, "cardiac", changed)
    after = [phantom_folder(data, tmp_path) for data in (heart, brain)]
    assert [new == old for new, old in zip(after, before, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hospital": "abbey"}, r"sites\.ivy\.data: 'abbey' is not .*ivy, juno.*; abbey is of kind: brain"),
        ({"hospital": "ivyy"}, "did you mean 'ivy'"),
        ({"kind": "brain"}, r"'ivy' is not .*abbey.*; ivy is of kind: cardiac"),
        ({"kind": "brain", "hospital": "abbey", "contrasts": ["FLAIR"]}, "'FLAIR' is not acquired at"),
    ],
)
def test_a_hospital_that_there_is_not_is_refused_before_any_is_made(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run = a_run(tmp_path / "cache", {"ivy": {"data": {**IVY, **change}, "labels": LABELS}})
    with pytest.raises(ConfigError, match=message):
        find_cases(run)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contrasts": ["ED"]}, "a cardiac centre makes all its images"),
        ({"voxel_mm": 12}, "12 is too coarse for a heart"),
        ({"kind": "heart"}, "'brain' or 'cardiac'"),
    ],
)
def test_what_a_heart_cannot_be_made_with_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PhantomData(**{**IVY, **change})


# --- splits -------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., Run]:
    """A run on a table of two hearts, of which the first has no label image."""

    def make(**over: Any) -> Run:
        lines = ["subject,ED,truth"]
        for subject in ("01", "02"):
            case = write_heart(tmp_path, subject)
            truth = case.labels["ED"].relative_to(tmp_path) if subject == "02" else ""
            lines.append(f"{subject},{case.images['ED'].relative_to(tmp_path)},{truth}")
        (tmp_path / "cases.csv").write_text("\n".join(lines))
        data = {"format": "table", "path": tmp_path / "cases.csv", "label_images": {"ED": "truth"}}
        return a_run(tmp_path / "cache", {"north": {"data": data, "labels": LABELS}}, **over)

    return make


def test_a_training_subject_must_have_a_labelled_image(folders: Callable[..., Run]) -> None:
    good = folders(split={"subjects": {"north": {"train": ["02"], "test": ["01"]}}})
    found = find_cases(good)
    prepared = prepare_cases(good, found, split_cases(good, found))["north"]
    assert prepared["train"][0].labels() is not None
    assert prepared["test"][0].labels() is None
    bad = folders(split={"subjects": {"north": {"train": ["01"], "test": ["02"]}}})
    with pytest.raises(
        DataError, match=r"north: no training subject has an image with a label image; .*\.train"
    ):
        split_cases(bad, found)


def test_keys_of_a_table_must_be_contrasts_of_the_run(folders: Callable[..., Run]) -> None:
    raw = folders().model_dump(mode="json")
    raw["sites"]["north"]["data"]["label_images"] = {"T1w": "truth"}
    with pytest.raises(ValidationError, match="'T1w' is not among `contrasts`"):
        Run(**raw)

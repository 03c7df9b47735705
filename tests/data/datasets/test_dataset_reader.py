"""``format: NAME`` in a run's YAML: what it accepts, what it gives, and what it says where nothing fits."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from folders import found, tree
from layouts import acdc, cases_of, heart_of, mnms
from polysite import recipe, registry
from polysite.cases import find_cases
from polysite.config.sources import DatasetData
from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.errors import ConfigError, DataError


def run_with(data: dict, **over: object):
    site = {"data": data, "labels": {"LV": 3, "MYO": 2, "RV": 1}}
    raw = {"name": "x", "contrasts": ["ED", "ES"], "sites": {"north": site}, "network": {"name": "fedcrld"}}
    return recipe.build({**raw, "task": {"name": "segmentation"}, "algorithm": {"name": "fedavg"}, **over})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"format": "acdcc", "path": "x"},
            r"sites\.north\.data: format: .*phantom, elsewhere, acdc, brats.*did you mean 'acdc'",
        ),
        ({"format": "dataset", "path": "x"}, r"sites\.north\.data: format: choose one of"),
        ({"format": ["acdc"], "path": "x"}, r"sites\.north\.data: format: choose one of"),
        ({"path": "x"}, r"sites\.north\.data: format: choose one of"),
        ({"format": "acdc"}, r"sites\.north\.data\.path: this key is required"),
        (
            {"format": "acdc", "path": "x", "pattern": "y"},
            r"sites\.north\.data\.pattern: unknown key 'pattern'",
        ),
        ({"format": "acdc", "path": "x", "where": {"site": 1}}, r"data\.where\.site: .*put it in quotes"),
        (
            {"format": "acdc", "path": "x", "contrasts": {"ED": "diastole"}},
            r"sites\.north\.data\.contrasts\.ED: 'diastole' is not offered by acdc; choose one of: ED, ES",
        ),
        ({"format": "acdc", "path": "x", "contrasts": {"LGE": "ED"}}, "'LGE' is not among `contrasts`"),
        (
            {"format": "acdc", "path": "x", "require": ["LGE"]},
            r"data\.require: 'LGE' is not among `contrasts`",
        ),
    ],
)
def test_a_wrong_section_names_the_key_and_what_is_right(data, message):
    with pytest.raises(ConfigError, match=message):
        run_with(data)


def test_a_run_finds_its_cases_and_is_read_back_as_it_is_written(tmp_path, monkeypatch):
    acdc(tmp_path / "hearts/training")
    monkeypatch.chdir(tmp_path)
    run = run_with({"format": "acdc", "path": "hearts", "contrasts": {"ED": "ES"}}, contrasts=["ED"])
    anchored = run.anchored()
    assert isinstance(anchored.sites["north"].data, DatasetData)
    assert anchored.sites["north"].data.path == tmp_path / "hearts"
    monkeypatch.chdir("/")
    (case,) = find_cases(recipe.build(__import__("yaml").safe_load(recipe.dump(anchored))))["north"]
    assert case.images["ED"].name == "patient001_frame12.nii.gz", "the run's name and the data set's differ"
    assert case.labels["ED"].name == "patient001_frame12_gt.nii.gz"
    assert case.root == tmp_path / "hearts"


def test_where_filters_by_the_site_key_and_by_facts(tmp_path):
    mnms(tmp_path, "A0S9V9,Siemens,A,1,0,2,,HCM,,,", "B0S9V9,Philips,B,2,0,2,,NOR,,,")
    tree(tmp_path, *heart_of("Testing", "A0S9V9"), *heart_of("Testing", "B0S9V9"))
    for where in ({"site": "2"}, {"vendor": "B"}, {"pathology": "NOR", "site": "2"}):
        (case,) = cases_of("mnms", tmp_path, "ED", "ES", where=where)
        assert case.subject == "B0S9V9"
    with pytest.raises(
        DataError, match=r"where: unknown key 'centre'; mnms has: site, vendor, vendor_name, path"
    ):
        cases_of("mnms", tmp_path, "ED", where={"centre": "2"})
    with pytest.raises(
        DataError, match=r"among 2 visits of mnms with site=3; .*site is one of: 1 \(1\), 2 \(1\)"
    ):
        cases_of("mnms", tmp_path, "ED", where={"site": "3"})
    with pytest.raises(DataError, match=r"it offers ED, ES"):
        cases_of("mnms", tmp_path, "T1w")


def test_visits_that_lack_a_required_contrast_are_left_out(tmp_path):
    tree(tmp_path, "IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0828-T2.nii.gz", "IXI012-HH-1211-T1.nii.gz")
    assert len(cases_of("ixi", tmp_path, "T1w", "T2w")) == 2
    cases = cases_of("ixi", tmp_path, "T1w", "T2w", require=("T1w", "T2w"))
    assert list(found(cases, tmp_path)) == ["sub-IXI002"]
    with pytest.raises(DataError, match=r"with site=HH and all of T1w, T2w"):
        cases_of("ixi", tmp_path, "T1w", "T2w", require=("T1w", "T2w"), where={"site": "HH"})


def test_a_missing_or_empty_folder_is_named_with_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such folder; correct sites\.north\.data\.path"):
        cases_of("ixi", tmp_path / "gone", "T1w")
    empty = tmp_path / "nothing here"
    empty.mkdir()
    with pytest.raises(
        DataError, match=r"nothing of ixi found .* expected IXI-T1/.*datasets ixi '.*nothing here'`"
    ):
        cases_of("ixi", empty, "T1w")


def test_another_package_adds_a_data_set(tmp_path, monkeypatch):
    import layouts

    def find(root: Path) -> Found:
        return Found((Visit("p1", None, "here", {"ED": root / "p1.nii.gz"}),))

    added = Dataset("ours", "Ours", "", "", "", "", "p1.nii.gz", ("ED",), "one site", find)
    monkeypatch.setattr(layouts, "OURS", added, raising=False)
    point = EntryPoint("ours", "layouts:OURS", "polysite.datasets")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == "polysite.datasets" else []
    )
    (case,) = find_cases(run_with({"format": "ours", "path": str(tmp_path)}))["north"]
    assert case.key == "sub-p1"

"""A run opened at a hospital: its own scans laid over what was agreed, and nothing changed behind the run's back."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import polysite, refused, well
from hospitals import OPEN_POLICY, across, hospital
from kit_files import kits
from polysite import recipe
from polysite.config.hospital import Policy
from polysite.config.run import Run
from polysite.errors import CheckpointError, ConfigError, DataError, PolicyError
from polysite.hospitals.opening import opener, run_folder
from polysite.hospitals.serving import create_served
from polysite.hospitals.site_file import at_hospital, load_hospital
from polysite.report.parts import put_together
from polysite.report.run_folder import read_run
from polysite.run import create, train
from small_runs import small_raw

SITE_YAML: dict[str, Any] = {
    "site": "north",
    "data": {"format": "bids", "path": "/data"},
    "store": "/store",
    "policy": {"runs": ["small"], "leaves": ["*"]},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small_raw(tmp_path_factory.mktemp("hospitals"))


@pytest.fixture
def run(raw: dict[str, Any]) -> Run:
    return recipe.build(raw)


# --- the run without anybody's data ---------------------------------------------------------------------


def test_what_is_agreed_holds_nothing_of_a_hospital(run: Run, raw: dict[str, Any]) -> None:
    subjects = {"split": {"subjects": {"north": {"train": ["01"], "test": ["02"]}}}}
    agreed = recipe.build(recipe.merge(raw, subjects)).agreed()
    text = json.dumps(agreed.model_dump(mode="json"))
    assert str(run.cache) not in text
    assert 'subjects": {}' in text
    assert agreed.here == {}
    assert agreed.digest() == run.agreed().digest() == agreed.agreed().digest()


def test_a_hospitals_digest_is_its_own_and_the_agreed_one_is_everybodys(run: Run, tmp_path: Path) -> None:
    north, south = (at_hospital(run, hospital(run, site, tmp_path)) for site in ("north", "south"))
    assert list(north.here) == ["north"]
    assert north.digest() != south.digest()
    assert north.agreed().digest() == south.agreed().digest() == run.agreed().digest()


def test_contrasts_that_the_run_does_not_have_are_left_out(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path)
    data = own.data.model_copy(update={"contrasts": {"T1w": "T1w", "DWI": "dwi"}})
    assert at_hospital(run, own.model_copy(update={"data": data})).sites["north"].data.contrasts == {
        "T1w": "T1w"
    }


def test_a_site_that_the_run_does_not_have(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path).model_copy(update={"site": "east"})
    with pytest.raises(ConfigError, match="has no 'east'; it has north, south, west"):
        at_hospital(run, own)


def test_subjects_stay_out_of_the_servers_run(raw: dict[str, Any], tmp_path: Path) -> None:
    subjects = {"split": {"subjects": {"north": {"train": ["01"], "test": ["02"]}}}}
    with pytest.raises(ConfigError, match=r"split.subjects.north: .* stay at the hospital"):
        create_served(recipe.build(recipe.merge(raw, subjects)), tmp_path / "server")


# --- SITE.yaml ------------------------------------------------------------------------------------------


def _exchange(**what: Any) -> dict[str, Any]:
    return {"policy": {"runs": ["small"], "leaves": [], "exchange": what}}


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"data": {"format": "elsewhere"}}, "data: format"),
        ({"data": {"format": "bids", "pth": "x"}}, "unknown key 'pth'"),
        ({"policy": {"runs": ["small"]}}, "policy.leaves: this key is required"),
        ({"policy": {"runs": [], "leaves": []}}, "policy.runs"),
        ({"policy": {"runs": ["a b"], "leaves": []}}, "'a b' is neither a run's name nor"),
        ({"policy": {"runs": ["f" * 63 + "g"], "leaves": []}}, "is neither a run's name nor"),
        (_exchange(values=[]), "policy.exchange.values: needs at least 1"),
        (
            _exchange(values=["int4"]),
            "policy.exchange.values.0: Input should be 'float32', 'bfloat16' or 'int8'",
        ),
        (_exchange(clip_at_most=0), "policy.exchange.clip_at_most: Input should be greater than 0, not 0"),
        (_exchange(noise=1), "policy.exchange.noise: unknown key 'noise'"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_wrong_site_yaml_is_refused_with_its_line(tmp_path: Path, over: dict[str, Any], says: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({**SITE_YAML, **over}))
    with pytest.raises(ConfigError, match=r"site.yaml:\d+: ") as caught:
        load_hospital(path)
    assert says in str(caught.value)


def test_joining_needs_a_kit(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(SITE_YAML))
    refused("join", path, says=["kit: is missing"], status=2)


# --- opening --------------------------------------------------------------------------------------------


def test_too_few_subjects_leave_nothing_behind(run: Run, tmp_path: Path) -> None:
    own = hospital(
        run, "north", tmp_path / "store", policy=OPEN_POLICY.model_copy(update={"min_subjects": 2})
    )
    with (
        pytest.raises(PolicyError, match=r"fewer training subjects than policy\.min_subjects, 2"),
        opener(own)(run.agreed()),
    ):
        pass
    assert not (tmp_path / "store").exists()


def test_a_run_does_not_go_on_with_other_data(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path)
    with opener(own)(run.agreed()) as crew:
        assert list(crew.sites) == ["north"]
        assert list(crew.plans) == ["north", "south", "west"]
    other = own.model_copy(update={"data": run.sites["south"].data})
    with pytest.raises(CheckpointError, match=r"sites\.north\.data\.path"), opener(other)(run.agreed()):
        pass


def test_a_run_is_open_once(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path)
    with (
        opener(own)(run.agreed()),
        pytest.raises(CheckpointError, match="another process"),
        opener(own)(run.agreed()),
    ):
        pass


def test_scans_that_are_gone_are_told_of_by_the_hospital_alone(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path, data={"format": "bids", "path": str(tmp_path / "gone")})
    with pytest.raises((ConfigError, DataError), match="gone"), opener(own)(run.agreed()):
        pass


# --- commands -------------------------------------------------------------------------------------------


def elsewhere(raw: dict[str, Any], path: Path) -> Path:
    sites = {name: {**site, "data": {"format": "elsewhere"}} for name, site in raw["sites"].items()}
    path.write_text(yaml.safe_dump({**raw, "sites": sites}, sort_keys=False))
    return path


def test_training_in_one_process_says_where_such_a_run_belongs(raw: dict[str, Any], tmp_path: Path) -> None:
    path = elsewhere(raw, tmp_path / "run.yaml")
    refused(
        "train", path, "--out", tmp_path / "out", says=["sites.north.data", "polysite serve", "polysite join"]
    )
    assert not (tmp_path / "out").exists()
    assert "Leaves the site" in well("plan", path)


def test_a_hospitals_folder_is_a_run_folder_and_its_log_can_be_read(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    across(
        recipe.merge(raw, {"training": {"rounds": 1}, "split": {"test": 0.5, "validation": 0.0}}), tmp_path
    )
    (folder,) = (tmp_path / "north").glob("small-*")
    well("evaluate", folder)
    assert (folder / "scores.csv").exists()
    refused("train", "--resume", folder, says=["the scans are elsewhere"])
    log, server = tmp_path / "north" / "audit.jsonl", tmp_path / "server" / "audit.jsonl"
    shown = well("audit", log, "--against", server, "--site", "north")
    assert "6 lines, none changed" in shown
    assert shown.count("worked") == 1
    log.write_text(log.read_text().replace('"round": 0', '"round": 9', 1))
    refused("audit", log, says=["audit.jsonl:1: was altered"], status=1)
    refused("audit", server, "--against", server, says=["--site"], status=2)


def test_a_report_of_all_folders_is_that_of_the_run_in_one_process(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    """Server and hospitals put together: the same sites, splits, scores and losses as a run on one machine."""
    raw = recipe.merge(raw, {"training": {"rounds": 2}, "split": {"test": 0.5, "validation": 0.0}})
    create(recipe.build(raw), tmp_path / "here")
    train(tmp_path / "here")
    across(raw, tmp_path)
    folders = [next((tmp_path / site).glob("small-*")) for site in raw["sites"]]
    for folder in (tmp_path / "here", *folders):
        well("evaluate", folder)
    (one,) = put_together([read_run(tmp_path / "server"), *map(read_run, folders)])
    here = read_run(tmp_path / "here")
    assert one.scores == here.scores
    assert one.splits == here.splits
    assert {key: event["losses"] for key, event in one.events.at_sites.items()} == {
        key: event["losses"] for key, event in here.events.at_sites.items()
    }
    assert one.events.end
    assert one.notes == []
    assert {name: site["data"]["format"] for name, site in one.config["sites"].items()} == dict.fromkeys(
        raw["sites"], "bids"
    )
    well("report", tmp_path / "server", *folders, "--out", tmp_path / "report.html")


def test_folders_of_other_runs_and_of_the_same_hospital_stay_apart(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    raw = recipe.merge(raw, {"training": {"rounds": 1}})
    across(raw, tmp_path / "a")
    across(recipe.merge(raw, {"seed": 8}), tmp_path / "b")
    across(raw, tmp_path / "c")
    folders = [read_run(next((tmp_path / at / "north").glob("small-*"))) for at in "abc"]
    assert len(put_together(folders)) == 3
    south = read_run(next((tmp_path / "b" / "south").glob("small-*")))
    assert [len(run.config["sites"]) for run in put_together([*folders, south])] == [3, 3, 3]


def test_the_servers_report_can_be_made(raw: dict[str, Any], tmp_path: Path) -> None:
    across(recipe.merge(raw, {"training": {"rounds": 1}}), tmp_path)
    well("report", tmp_path / "server")


def test_terms_that_do_not_fit_are_refused_before_anything_is_made(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    path, out = elsewhere(raw, tmp_path / "run.yaml"), tmp_path / "out"
    pytest.importorskip("nvflare")
    kits(tmp_path / "kits")
    what = ("serve", path, "--kit", tmp_path / "kits" / "server", "--out", out, "--min-sites", 4)
    refused(*what, says=["--min-sites: 4 is not between 1 and the run's 3 sites"], status=2)
    assert not out.exists()


def test_serving_needs_a_kit_and_a_run(raw: dict[str, Any], tmp_path: Path) -> None:
    path = elsewhere(raw, tmp_path / "run.yaml")
    refused("serve", path, "--kit", tmp_path / "none", says=["kit.json", "polysite provision"], status=2)
    assert polysite("serve").status == 2


def test_the_folder_of_a_run_is_named_after_its_digest(run: Run, tmp_path: Path) -> None:
    own = hospital(run, "north", tmp_path)
    assert run_folder(own, run) == tmp_path / f"small-{run.agreed().digest()[:12]}"
    assert Policy(runs=(run.agreed().digest(),), leaves=()).runs == (run.agreed().digest(),)

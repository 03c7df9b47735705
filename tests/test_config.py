"""Configuration: every mistake names the file, the line, the value and the remedy."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polysite import recipe
from polysite.config.run import digest_of
from polysite.config.site import parse_task
from polysite.config.sources import BidsData
from polysite.errors import ConfigError
from toy import toy_raw

RUN = """\
name: small
contrasts: [T1w, T2w]
sites:
  north:
    data: {format: bids, path: data/north}
    tasks: [T1w->T2w]
  south:
    data: {format: table, path: data/south.csv}
    tasks: ["T2w → T1w"]
algorithm: {name: pflsynth}
training:
  rounds: 3
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  rounds: 3", "  ruonds: 3", r"run\.yaml:12: training\.ruonds: unknown key 'ruonds'"),
        ("  rounds: 3", "  rounds: 0", r"run\.yaml:12: training\.rounds: .*not 0"),
        ("  rounds: 3", "  rounds: many", r"run\.yaml:12: training\.rounds: .*'many'"),
        (
            "  rounds: 3",
            "  rounds: 3\nexchange: {clip: 0}",
            r"run\.yaml:13: exchange\.clip: .*greater than 0, not 0",
        ),
        ("  rounds: 3", "  rounds: 3\nexchange: {clip: .inf}", r"run\.yaml:13: exchange\.clip: .*finite"),
        ("  rounds: 3", "  rounds: 3\nexchange: {clip: much}", r"run\.yaml:13: exchange\.clip: .*'much'"),
        ("  rounds: 3", "  rounds: 3\nexchange: {values: int4}", r"exchange\.values: .*'int8', not 'int4'"),
        ("  rounds: 3", "  rounds: 3\nexchange: {noise: 1}", r"exchange\.noise: unknown key 'noise'"),
        ("  rounds: 3", "  rounds: 3\nexchange: int8", r"run\.yaml:13: exchange: must be a mapping.*'int8'"),
        ("name: small", "name: ../evil", r"run\.yaml:1: name"),
        ("[T1w->T2w]", "[T1w->T3w]", r"'T3w' in 'T1w->T3w' is not among `contrasts` \(T1w, T2w\)"),
        ("[T1w->T2w]", "[T1w]", r"run\.yaml:6: .*'T1w' is not a task; write 'SOURCE->TARGET'"),
        ("[T1w->T2w]", "[T1w->T1w]", "same source and target"),
        ("[T1w->T2w]", "[T1w->T2w, T1w->T2w]", "listed twice"),
        ("[T1w->T2w]", "[]", r"run\.yaml:4: sites\.north: needs either `tasks`"),
        ("format: bids", "format: bidz", r"run\.yaml:5: sites\.north\.data: .*bidz"),
        ("path: data/north", "paht: data/north", r"run\.yaml:5: .*paht"),
        (
            "name: pflsynth",
            "name: pflsnyth",
            r"'pflsnyth' is not one of the algorithms \(did you mean 'pflsynth'",
        ),
        (
            "name: pflsynth",
            "name: pflsynth, preset: best",
            r"'best' is not a preset of 'pflsynth'; choose one of: repaired",
        ),
        ("name: pflsynth", "name: pflsynth, mu: 1", r"run\.yaml:10: algorithm\.mu: unknown key"),
        ("contrasts: [T1w, T2w]", "contrasts: [T1w, T1w]", "lists one twice"),
        ("name: small\n", "", r"run\.yaml: name: this key is required"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RUN
    with pytest.raises(ConfigError, match=message):
        recipe.load(written(tmp_path, RUN.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("- a\n- b", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.load(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        recipe.load(tmp_path / "nowhere.yaml")


def test_the_full_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    run = recipe.load(written(tmp_path, RUN))
    again = recipe.load(written(tmp_path, recipe.dump(run)))
    assert again == run
    assert again.digest() == run.digest()
    assert list(again.sites) == ["north", "south"]


def test_a_preset_lies_below_the_users_own_values(tmp_path: Path) -> None:
    path = written(tmp_path, RUN)
    faithful = recipe.load(path, ["algorithm.preset=faithful"])
    assert (faithful.training.schedule_end, faithful.training.rounds) == ("zero", 3)
    assert faithful.training.flat_rounds is None, "half of the rounds: 75 of the paper's 150, 1 of 3"
    repaired = recipe.load(path)
    assert repaired.algorithm.settings["preset"] == "repaired"
    assert repaired.training.schedule_end == "positive"
    assert recipe.load(path, ["training.schedule_end=zero"]).training.schedule_end == "zero"


def test_set_replaces_one_value(tmp_path: Path) -> None:
    path = written(tmp_path, RUN)
    assert recipe.load(path, ["training.rounds=9", "training.betas=[0.9, 0.99]"]).training.betas == (
        0.9,
        0.99,
    )
    with pytest.raises(ConfigError, match=r"--set 'rounds'"):
        recipe.load(path, ["rounds"])
    with pytest.raises(ConfigError, match=r"training\.round"):
        recipe.load(path, ["training.round=9"])


def test_settings_without_a_name_belong_to_the_usual_class(tmp_path: Path) -> None:
    run = recipe.load(written(tmp_path, RUN), ["network.width=8", "algorithm={weights: equal}"])
    assert (run.network.name, run.network.settings["width"]) == ("pflsynth", 8)
    assert (run.algorithm.name, run.algorithm.settings["weights"]) == ("pflsynth", "equal")


def test_another_class_does_not_inherit_settings() -> None:
    merged = recipe.merge(
        {"algorithm": {"name": "pflsynth", "shared": ["a"]}}, {"algorithm": {"name": "local"}}
    )
    assert merged == {"algorithm": {"name": "local"}}


def test_the_digest_knows_what_decides_the_models(toy_task: None) -> None:
    def digest(**over: Any) -> str:
        return recipe.build(toy_raw(2, **over)).digest()

    base = digest()
    for same in ({"label": "x"}, {"cache": "elsewhere"}, {"engine": {"name": "processes"}}):
        assert digest(**same) == base
    for other in ({"seed": 8}, {"training": {"rounds": 4}}, {"contrasts": ["T2w", "T1w"]}):
        assert digest(**other) != base
    raw = toy_raw(2)
    raw["sites"] = dict(reversed(raw["sites"].items()))
    assert recipe.build(raw).digest() != base


def test_a_run_without_an_exchange_has_the_digest_that_it_had_before_there_was_one(toy_task: None) -> None:
    run = recipe.build(toy_raw(2))
    content = run.model_dump(mode="json")
    before = {key: value for key, value in content.items() if key != "exchange"}
    assert digest_of(before) == digest_of(content) == run.digest()
    for over in ({"values": "int8"}, {"clip": 1.0}, {"error_feedback": False}):
        assert recipe.build(toy_raw(2, exchange=over)).digest() != run.digest()


def test_a_variable_in_a_path_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    data = BidsData(path=Path("${POLYSITE_NOWHERE}/x"))
    with pytest.raises(ConfigError, match="POLYSITE_NOWHERE; set it to a folder"):
        data.folder()
    monkeypatch.setenv("POLYSITE_NOWHERE", "/scans")
    assert data.folder() == Path("/scans/x")


@given(st.text(max_size=30))
def test_any_text_is_a_task_or_a_clear_error(text: str) -> None:
    try:
        source, target = parse_task(text)
    except ValueError as error:
        source, target, message = "T1w", "T2w", str(error)
    else:
        message = repr(text)
    assert repr(text) in message
    assert parse_task(f"{source}->{target}") == (source, target)


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipe.load(path)
    assert yaml.safe_load(recipe.dump(run))["name"] == path.stem

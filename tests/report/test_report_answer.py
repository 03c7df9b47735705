"""Which methods the question is about, and what the page says of its answer."""

import json

import pytest

from polysite.evaluate.compare import Verdict
from polysite.report.answer import answer, main_method, order_methods
from polysite.report.run_folder import read_run
from polysite.report.settings import differing, flatten
from polysite.report.travel import group_names, travel
from polysite.report.words import bytes_text, number, p_text, signed
from report.study import SHARED, write_run


@pytest.mark.parametrize(
    ("algorithms", "main"),
    [
        (
            {"local": "local", "pflsynth-faithful": "pflsynth", "pflsynth-repaired": "pflsynth"},
            "pflsynth-repaired",
        ),
        ({"pflsynth": "pflsynth", "pflsynth-faithful": "pflsynth"}, "pflsynth"),
        ({"local": "local", "fedavg": "fedavg", "central": "central"}, "fedavg"),
        ({"repaired": "pflsynth", "no-dropout": "pflsynth"}, "repaired"),
        ({"fedavg": "fedavg", "mine": "fedprox"}, "mine"),
        ({"local": "local", "central": "central"}, None),
    ],
)
def test_the_main_method(algorithms, main):
    assert main_method(algorithms) == main


def test_methods_go_from_training_alone_to_pooled_scans():
    found = order_methods({"c": "central", "p": "pflsynth", "x": "fedprox", "f": "fedavg", "l": "local"})
    assert found == ["l", "f", "x", "p", "c"]


@pytest.mark.parametrize(
    ("gain_db", "verdict", "words"),
    [
        (1.0, Verdict.HELPS, "Yes, on average: pflsynth gains"),
        (-1.0, Verdict.HURTS, "No: on average pflsynth loses"),
    ],
)
def test_the_headline_follows_the_test(tmp_path, gain_db, verdict, words):
    sites = {"guys": ("T1w->T2w",)}
    scores = [
        row
        for algorithm, gain in (("local", 0.0), ("pflsynth", gain_db))
        for row in read_run(
            write_run(tmp_path / algorithm, algorithm=algorithm, gain_db=gain, sites=sites, n_rounds=1)
        ).scores
    ]
    found = answer(scores, {"local": "local", "pflsynth": "pflsynth"})
    assert found.verdict is verdict
    assert found.headline.startswith(words)
    assert found.average is None


def test_what_travels_is_that_of_the_plan_and_the_events(tmp_path):
    folders = {
        algorithm: travel(read_run(write_run(tmp_path / algorithm, algorithm=algorithm, n_rounds=3)))
        for algorithm in ("local", "pflsynth", "central")
    }
    shared = folders["pflsynth"]
    assert [name for name, _ in shared.shared] == SHARED
    assert ("discriminator.T1w-T2w.model", 5) in shared.private
    assert shared.bytes_per_round == 4 * shared.shared_values
    assert shared.bytes_up == shared.bytes_per_round  # a plan from before there was an exchange
    assert [site.up_total for site in shared.sites] == [3_000_000] * 3
    assert folders["local"].shared_values == 0
    assert [item.pools_scans for item in folders.values()] == [False, False, True]


def test_smaller_values_go_up_than_come_down(tmp_path):
    folder = write_run(tmp_path / "run", algorithm="pflsynth", n_rounds=1)
    plan = json.loads((folder / "share_plan.json").read_text())
    plan["shared"]["bytes_up"] = 1_000
    (folder / "share_plan.json").write_text(json.dumps(plan))
    found = travel(read_run(folder))
    assert (found.bytes_up, found.bytes_per_round) == (1_000, 4 * found.shared_values)


def test_names_are_grouped_by_module_below_their_network():
    names = ["generator.res6.conv.weight", "generator.res6.conv.bias", "generator.out.bias"]
    assert group_names(names, ["generator"]) == [("generator.res6", 2), ("generator.out", 1)]
    assert group_names(None) == []


def test_only_what_differs_between_configurations_is_listed():
    first, second = {"a": {"b": 1, "c": [1, 2]}, "d": 3}, {"a": {"b": 1, "c": [1]}, "e": {}}
    assert differing([first, second]) == [("a.c", ["[1, 2]", "[1]"]), ("d", ["3", "–"]), ("e", ["–", "{}"])]
    assert differing([first, first]) == []
    assert flatten({"a": {"b": None}}) == {"a.b": "None"}


def test_numbers_are_written_with_true_signs_and_fixed_digits():
    assert (number(-0.5), number(-0.001), number(0.1234, 3)) == ("−0.50", "0.00", "0.123")
    assert (signed(0.5), signed(-0.5), signed(0.001)) == ("+0.50", "−0.50", "0.00")
    assert [p_text(p).replace("\u00a0", " ") for p in (0.0001, 0.03125, 0.5, None)] == [
        "p < 0.001",
        "p = 0.031",
        "p = 0.50",
        "too few for a test",
    ]
    assert [bytes_text(count) for count in (999, 25_677_100, 3e9)] == ["999 B", "25.7 MB", "3.0 GB"]

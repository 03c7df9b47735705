"""events.jsonl of runs that were stopped, continued and damaged."""

import json

import pytest

from polysite.errors import DataError
from polysite.report.events import read_events


def _site(round_, value, site="north", **more):
    return {"event": "site", "round": round_, "site": site, "losses": {"l1": value}, "bytes_out": 10} | more


def _write(path, events, tail=""):
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return read_events(path)


def test_a_round_done_twice_counts_once_with_its_last_values(tmp_path):
    events = _write(tmp_path / "e.jsonl", [_site(0, 0.5), _site(1, 0.4), _site(0, 0.3), _site(1, 0.2)])
    assert events.series("north", "losses", "l1") == [(0, 0.3), (1, 0.2)]
    assert events.total("north", "bytes_out") == 20


def test_a_last_line_that_is_cut_is_no_damage_and_one_before_it_is(tmp_path):
    events = _write(tmp_path / "e.jsonl", [_site(0, 0.5)], '{"event": "site", "rou')
    assert (events.n_rounds, events.n_damaged) == (1, 0)
    events = _write(
        tmp_path / "e.jsonl", [_site(0, 0.5)], '{"event": "site", "rou\n' + json.dumps(_site(1, 0.4))
    )
    assert (events.n_rounds, events.n_damaged) == (2, 1)


def test_bytes_that_are_no_text_are_damage_and_not_an_error(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b"\xff\xfe\n[1, 2]\n" + json.dumps(_site(0, 1.0)).encode() + b"\n")
    events = read_events(path)
    assert (events.n_damaged, events.n_rounds) == (2, 1)


def test_a_run_that_started_again_has_not_ended(tmp_path):
    start, end = {"event": "start", "rounds": 4}, {"event": "end"}
    assert _write(tmp_path / "e.jsonl", [start, end]).end == end
    assert _write(tmp_path / "e.jsonl", [start, end, start]).end == {}


def test_values_that_are_missing_or_not_finite_leave_a_gap(tmp_path):
    events = _write(
        tmp_path / "e.jsonl",
        [
            _site(0, 0.5, validation=None),
            _site(1, float("nan")),
            _site(2, "high"),
            _site(3, 0.1, losses=None),
        ],
    )
    assert events.series("north", "losses", "l1") == [(0, 0.5)]
    assert events.series("north", "validation", "l1") == []


def test_only_rounds_that_every_site_has_done_are_done(tmp_path):
    events = _write(tmp_path / "e.jsonl", [_site(0, 1), _site(1, 1), _site(0, 1, site="south")])
    assert events.n_rounds == 1
    assert events.sites == ["north", "south"]


def test_a_file_that_cannot_be_read_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_events(tmp_path)


def test_what_hospitals_did_is_kept_by_its_last_event_and_is_no_damage(tmp_path):
    came, left = {"event": "came", "site": "north"}, {"event": "left", "site": "north", "why": "cut"}
    absent = {"event": "absent", "site": "south", "what": "round 2", "why": "too late"}
    rounds = [{"event": "round", "round": 0}, {"event": "round", "round": 1}]
    late = {"event": "late", "site": "south"}
    events = _write(tmp_path / "e.jsonl", [came, _site(0, 1.0), left, absent, late, *rounds, _site(1, 1.0)])
    assert (events.presence, events.absent, events.n_damaged) == ({"north": left}, {"south": absent}, 0)
    assert (events.missed("north"), events.missed("south")) == ([], [0, 1])

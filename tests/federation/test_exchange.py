"""Clipped and rounded changes across engines: the same bytes everywhere, also after a stop, and fewer on the wire."""

import json
from pathlib import Path
from typing import Any

import pytest

from hospitals import across, states
from polysite import recipe
from polysite.federation.audit import verify
from polysite.federation.tensor_files import read_tensors
from polysite.run import create, train
from small_runs import digests, small_raw

EXCHANGE = {"values": "int8", "clip": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


@pytest.fixture(scope="module")
def here(data: Path) -> dict[str, str]:
    """Digests of all models and stores of the run in one process."""
    folder = data / "here"
    create(recipe.build(small_raw(data, exchange=EXCHANGE)), folder)
    train(folder)
    return digests(folder, "*.safetensors")


def test_workers_leave_the_same_bytes(here: dict[str, str], data: Path, tmp_path: Path) -> None:
    raw = small_raw(data, exchange=EXCHANGE)
    raw["engine"] = {"name": "processes", "workers": 2}
    create(recipe.build(raw), tmp_path / "run")
    train(tmp_path / "run")
    assert digests(tmp_path / "run", "*.safetensors") == here


def test_hospitals_leave_the_same_bytes_and_send_what_the_plan_says(
    here: dict[str, str], data: Path, tmp_path: Path
) -> None:
    """What a site keeps, of its model as of what rounding lost, is in no byte that went over the wire."""
    events: list[dict[str, Any]] = []
    loop = across(small_raw(data, exchange=EXCHANGE), tmp_path, events.append)
    assert states(digests(tmp_path, "*.safetensors")) == here
    wire = b"".join(part for _, request, answer in loop.seen for part in (request, answer))
    n_sought = 0
    for site in loop.outposts:
        (folder,) = (tmp_path / site).glob("small-*")
        for path in (folder / "sites" / site / "store").rglob("state.safetensors"):
            for name, tensor in read_tensors(path).items():
                content = tensor.numpy().tobytes()
                if name.startswith("residual/") and len(set(content)) > 8:
                    assert content not in wire, name
                    n_sought += 1
        sent = [line for line in verify(tmp_path / site / "audit.jsonl") if line.get("kind") == "worked"]
        types = {kind for line in sent for _, kind, _ in line["tensors"]}
        assert types == {"int8", "float32"}
        assert all(
            kind == "int8" or name.endswith(":scale") for line in sent for name, kind, _ in line["tensors"]
        )
    assert n_sought > 50
    assert b"change_norm" not in wire
    visits = [event for event in events if event["event"] == "site"]
    assert all(event["bytes_out"] < 0.3 * event["bytes_in"] for event in visits)


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    here: dict[str, str], data: Path, tmp_path: Path
) -> None:
    raw, n = small_raw(data, exchange=EXCHANGE), 0

    def stop(event: dict[str, Any]) -> None:
        nonlocal n
        n += event["event"] == "site"
        if n == 5:
            raise Stop

    with pytest.raises(Stop):
        across(raw, tmp_path, stop)
    across(raw, tmp_path)
    assert states(digests(tmp_path, "*.safetensors")) == here


def test_the_plan_says_what_goes_up_and_what_is_done(here: dict[str, str], data: Path) -> None:
    text = (data / "here" / "share_plan.txt").read_text(encoding="utf-8")
    for words in (
        "the change since the round began is sent",
        "an L2 norm above 0.5 is scaled down",
        "rounded to int8, with scales that are sent too; what that loses stays at the site",
    ):
        assert words in text
    up, down = (int(text.split(f" bytes {way}")[0].split()[-1].replace(",", "")) for way in ("up", "down"))
    assert up < 0.3 * down


def test_the_norm_of_a_change_is_told_where_it_stays_on_the_machine(here: dict[str, str], data: Path) -> None:
    """Who sets a bound has to know what it bounds."""
    events = [json.loads(line) for line in (data / "here" / "events.jsonl").read_text().splitlines()]
    norms = [event["change_norm"] for event in events if event["event"] == "site"]
    assert len(norms) == 9
    assert all(norm > 0 for norm in norms)

"""Rounds that go on without a hospital, and its return: what it keeps, what is told, what the report says."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from command import well
from hospitals import Loop, hospital, outpost
from polysite import recipe
from polysite.errors import PolysiteError
from polysite.federation import gather, wire
from polysite.federation.across import Terms
from polysite.federation.carrier import Came, Event, Left
from polysite.federation.remote import Outpost
from polysite.federation.store import Store
from polysite.hospitals.serving import create_served, serve
from polysite.run import create, train
from small_runs import digests, small_raw

AWAY = "south"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small_raw(tmp_path_factory.mktemp("away"), training={"rounds": 4})


class Cut(Loop):
    """A hospital's line breaks when it is asked for some rounds; it is back when another is asked for ``back``.

    Time passes only while nothing happens.
    """

    now = 0.0

    def __init__(self, outposts: Mapping[str, Outpost], rounds: set[int], back: int | None) -> None:
        super().__init__(outposts)
        self.rounds, self.back = rounds, back

    def next(self, timeout_s: float) -> Event | None:
        event = super().next(timeout_s)
        Cut.now += timeout_s if event is None else 0.0
        return event

    def send(self, site: str, data: Sequence[memoryview]) -> None:
        head = wire.read(b"".join(data), "server", 1 << 30).head
        if site != AWAY and head.kind == "round" and head.round == self.back:
            self.events.append(Came(AWAY))
            self.back = None
        if site == AWAY and head.kind == "round" and head.round in self.rounds:
            self.events.append(Left(site, "cut"))
            return
        super().send(site, data)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "time", SimpleNamespace(monotonic=lambda: Cut.now))


def run_with(
    raw: dict[str, Any], folder: Path, rounds: set[int], back: int | None, min_sites: int | None = 2
) -> None:
    run = recipe.build(raw)
    if not (folder / "server").exists():
        create_served(run, folder / "server")
    outposts = {site: outpost(hospital(run, site, folder / site)) for site in run.sites}
    terms = Terms(wait_s=5, deadline_s=30, min_sites=min_sites)
    serve(folder / "server", lambda limits: Cut(outposts, rounds, back), terms)


def versions(folder: Path, site: str) -> list[int]:
    (run,) = (folder / site).glob("small-*")
    return Store(run / "sites" / site / "store", "").versions()


def test_nobody_away_is_as_if_there_were_no_limits(raw: dict[str, Any], tmp_path: Path) -> None:
    create(recipe.build(raw), tmp_path / "here")
    train(tmp_path / "here")
    run_with(raw, tmp_path / "across", set(), None)
    here = digests(tmp_path / "here" / "server", "*.safetensors")
    assert digests(tmp_path / "across" / "server" / "server", "*.safetensors") == here


def test_a_hospital_that_comes_back_goes_on_from_its_own_last_round(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    """Away in rounds 2 and 3 of 4: it begins the last one from its state after round 1."""
    run_with(raw, tmp_path, {1, 2}, back=3)
    assert versions(tmp_path, AWAY) == [4]
    assert versions(tmp_path, "north") == [3, 4]
    facts = json.loads((tmp_path / "server/server/store/round-000003/state.json").read_text())["facts"]
    assert facts["last"] == {"north": 3, "south": 1, "west": 3}
    assert len(json.loads((tmp_path / "server" / "models.json").read_text())) == 3
    shown = well("status", tmp_path / "server")
    assert "ended; round 4 of 4" in shown
    assert "2: south: still not there" in shown
    page = (tmp_path / "server" / "report.html", well("report", tmp_path / "server"))[0].read_text()
    assert "south took no part in 2 rounds of 4" in page
    assert well("status", tmp_path / AWAY).count("ended") == 1


def test_a_hospital_that_stays_away_has_no_model_until_it_is_back(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        PolysiteError,
        match=r"^south: still not there\nall others have their model; to make the missing ones, resume",
    ):
        run_with(raw, tmp_path, {1, 2, 3}, back=None)
    assert "south without a model" in well("status", tmp_path / "server")
    before = digests(tmp_path / "server", "*.safetensors")
    run_with(raw, tmp_path, set(), None)
    assert digests(tmp_path / "server", "*.safetensors") == before
    assert (next((tmp_path / AWAY).glob("small-*")) / "sites" / AWAY / "model.safetensors").exists()
    assert set(json.loads((tmp_path / "server" / "models.json").read_text())) == {"north", "south", "west"}


def test_a_hospital_that_took_part_in_nothing_gets_a_model_at_the_end(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(PolysiteError, match="all others have their model"):
        run_with(raw, tmp_path, {0, 1, 2, 3}, back=None)
    run_with(raw, tmp_path, set(), None)
    assert versions(tmp_path, AWAY) == []
    assert (next((tmp_path / AWAY).glob("small-*")) / "sites" / AWAY / "model.safetensors").exists()


def test_all_are_needed_unless_it_is_said(raw: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PolysiteError, match=r"^south: not there within 30 s"):
        run_with(raw, tmp_path, {1}, back=2, min_sites=None)
    shown = well("status", tmp_path / "server")
    assert "stopped; round 1 of 4" in shown
    assert "south: not there within 30 s" in shown


def test_a_hospital_whose_store_is_older_than_what_it_took_part_in_is_refused(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(PolysiteError):
        run_with(raw, tmp_path, {3}, back=None, min_sites=None)
    (run,) = (tmp_path / AWAY).glob("small-*")
    store = Store(run / "sites" / AWAY / "store", "")
    for version in store.versions():
        store.path(version).rename(store.folder / f"round-{version - 2:06d}")
    with pytest.raises(PolysiteError, match=r"south: holds round-000000, round-000001 but the server is at"):
        run_with(raw, tmp_path, set(), None, min_sites=None)


def test_a_number_of_sites_that_there_are_not(raw: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PolysiteError, match="--min-sites: 4 is not between 1 and the run's 3 sites"):
        run_with(raw, tmp_path, set(), None, min_sites=4)

"""Server and hospitals as processes of their own, with mutual TLS between them: the same bytes as in one process."""

from collections.abc import Callable

import pytest

from hospitals import states
from processes import Stage
from small_runs import digests, polysite

pytestmark = pytest.mark.timeout(600)


def test_a_run_over_mutual_tls_leaves_the_same_bytes(
    stage: Callable[..., Stage], here: Callable[..., dict[str, str]]
) -> None:
    play = stage()
    hospitals = play.join_all("--once")
    said = play.serve().ended(0)
    assert said.rstrip().endswith(str(play.server))
    for site, hospital in hospitals.items():
        assert f"{site}: small has ended; its model is " in hospital.ended(0)
    assert states(digests(play.folder, "*.safetensors")) == here()
    log = play.folder / "north" / "audit.jsonl"
    checked = polysite("audit", log, "--against", play.server / "audit.jsonl", "--site", "north")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.engine
def test_a_hospital_that_refuses_ends_the_run_with_its_reason(stage: Callable[..., Stage]) -> None:
    play = stage()
    play.write_site("south", policy={"leaves": ["generator.encoder.*"]})
    hospitals = play.join_all("--once")
    said = play.serve().ended(1)
    assert "south: takes no part: " in said
    assert "would leave; no pattern of policy.leaves allows it" in said
    assert not list((play.folder / "south").glob("small-*"))
    for hospital in hospitals.values():
        assert "join again" in hospital.ended(1)

"""What the server writes to sites: one body for all who share the same, hashed once."""

from pathlib import Path

import torch

from polysite.federation import wire
from polysite.federation.audit import Audit
from polysite.federation.letters import Letters
from toy import CrewMaker


def test_sites_that_share_the_same_get_one_body(toy_crew: CrewMaker, tmp_path: Path) -> None:
    crew = toy_crew(2)
    letters, state = Letters(crew, Audit(tmp_path / "log.jsonl")), crew.initial()
    first, second = (letters.ask("round", site, 0, state) for site in ("site0", "site1"))
    assert len(first) == len(second) > 3
    assert all(one is other for one, other in zip(first[1:-1], second[1:-1], strict=True))
    assert wire.digest_of(first) != wire.digest_of(second)
    for site, data in (("site0", first), ("site1", second)):
        payload = wire.read(b"".join(data), "server", 1 << 20)
        assert payload.head.site == site
        assert payload.digest == wire.digest_of(data)


def test_another_state_is_another_body(toy_crew: CrewMaker, tmp_path: Path) -> None:
    crew = toy_crew(1)
    letters, shared = Letters(crew, Audit(tmp_path / "log.jsonl")), crew.plans["site0"].shared
    for round_ in range(3):
        state = {name: torch.full_like(tensor, round_) for name, tensor in crew.initial().items()}
        data = b"".join(letters.ask("round", "site0", round_, state))
        found = wire.read(data, "server", 1 << 20).tensors(shared)
        assert all(torch.equal(found[name], state[name]) for name in shared)
    assert len(b"".join(letters.ask("stop", "site0", 3, {}))) < len(data)

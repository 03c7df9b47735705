"""A hospital whose answers are not what was agreed on: each is refused by name, and the others go on."""

from collections.abc import Callable

import pytest

from processes import Stage

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LIES = """
import torch
from polysite.federation import wire
encode = wire.encode
def lying(head, tensors):
    lied = dict(tensors)
    if head.kind == "worked":
        name = sorted(lied)[0]
        if head.round == 0:
            lied[name] = torch.full_like(lied[name], float("nan"))
        elif head.round == 1:
            del lied[name]
        elif head.round == 2:
            lied["generator.more"] = torch.zeros(3)
        elif head.round == 3:
            lied[name] = lied[name].reshape(-1)[:1].clone()
        elif head.round == 4:
            lied[name] = torch.zeros(10_000_000)
    return encode(head, lied)
wire.encode = lying
"""


def test_tensors_that_were_not_agreed_on_are_not_used(stage: Callable[..., Stage]) -> None:
    play = stage("north", "south", training={"rounds": 6})
    north, south = play.join("north", "--once"), play.join("south", "--once", patch=LIES)
    said = play.serve("--min-sites", "1", deadline=15).ended(0)
    for program in (north, south):
        program.ended(0)
    absent = [event["why"] for event in play.events("absent", site="south")]
    for why, words in zip(
        absent,
        (
            "has values that are not finite",
            "is missing",
            "'generator.more' is not in the share plan",
            "is 'F32' [1], not torch.float32",
            "no answer within 15 s",
        ),
        strict=True,
    ):
        assert words in why
        assert why in said
    assert "south: what it sent did not arrive: has 40" in said
    assert [event["round"] for event in play.events("site", site="south")] == [5]

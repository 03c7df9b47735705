"""The hospital's end: what its policy does not allow, or is not as agreed, is refused before any data is read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hospitals import OPEN_POLICY, Loop
from polysite import recipe
from polysite.config.hospital import Policy
from polysite.config.run import Run
from polysite.errors import CheckpointError, ConfigError, DataError, PolysiteError
from polysite.federation import wire
from polysite.federation.across import Across
from polysite.federation.audit import Audit, verify
from polysite.federation.crew import Crew, assemble
from polysite.federation.remote import Outpost
from polysite.federation.saver import Saver, saving
from polysite.federation.server import federate
from polysite.federation.share import fingerprint
from polysite.federation.sound import received, sendable
from polysite.hospitals.serving import create_served
from toy import toy_raw

SITE = "site0"
Making = Callable[..., "Bench"]


class Bench:
    """A server's engine and one outpost, joined by a loop."""

    def __init__(
        self, folder: Path, saver: Saver, opening: Any = None, policy: Policy = OPEN_POLICY, **over: Any
    ) -> None:
        self.run = recipe.build(toy_raw(1, **over)).agreed()
        self.folder, self.told, self.opened = folder, [], 0
        crew = assemble(self.run, {}, folder / "server", saver)
        self.crew = crew
        self.shared = crew.plans[SITE].shared

        @contextmanager
        def open_run(run: Run) -> Iterator[Crew]:
            self.opened += 1
            with saving() as own:
                self.site_crew = assemble(run, {SITE: {"train": [], "validation": [0]}}, folder / "site", own)
                if opening:
                    opening(self.site_crew)
                yield self.site_crew

        log = Audit(folder / "site.jsonl")
        self.outpost = Outpost(SITE, policy, log, open_run=open_run, tell=self.told.append)
        self.engine = Across(crew, Loop({SITE: self.outpost}), Audit(folder / "server.jsonl"))

    def refused(self, says: str, *, opened: int = 0) -> str:
        with pytest.raises(PolysiteError, match=says) as caught:
            self.engine.join(0)
        assert self.opened == opened
        return str(caught.value)

    def ask(self, tensors: dict[str, torch.Tensor] | None = None, **over: Any) -> wire.Payload:
        """A request of any content, and its answer."""
        usual = {
            "kind": "round",
            "run": self.run.digest(),
            "plan": fingerprint(self.shared),
            "site": SITE,
            "round": 0,
            "log": "",
            "facts": {},
        }
        head = wire.Head(**{**usual, **over})
        data = b"".join(wire.encode(head, self.crew.initial() if tensors is None else tensors))
        return wire.read(b"".join(self.outpost.answer(data)), SITE, wire.most_bytes(self.shared))

    def log(self) -> list[dict[str, Any]]:
        return verify(self.folder / "site.jsonl")


@pytest.fixture
def bench(toy_task: None, tmp_path: Path) -> Iterator[Making]:
    made: list[Bench] = []
    with saving() as saver:

        def make(**over: Any) -> Bench:
            made.append(Bench(tmp_path / str(len(made)), saver, **over))
            return made[-1]

        yield make
        for one in made:
            one.outpost.leave()


def policy(**over: Any) -> Policy:
    return Policy(**{**OPEN_POLICY.model_dump(), **over})


# --- the policy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"runs": ("other",)}, "'toy'.*not among policy.runs"),
        ({"runs": ("0" * 64,)}, "not among policy.runs"),
        ({"max_rounds": 2}, "3 rounds; policy.max_rounds is 2"),
        ({"max_bytes_per_round": 19}, "20 bytes would leave.*policy.max_bytes_per_round is 19"),
        ({"leaves": ("body.w",)}, "'body.steps' would leave"),
        ({"leaves": ()}, "would leave"),
        ({"exchange": {"clip_at_most": 1}}, "does not clip .*policy.exchange.clip_at_most is 1"),
        (
            {"exchange": {"values": ("bfloat16", "int8")}},
            r"sends float32 .*policy.exchange.values allows bfloat16, int8",
        ),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_before_data_is_read(
    bench: Making, over: dict[str, Any], says: str
) -> None:
    one = bench(policy=policy(**over))
    one.refused(f"site0: takes no part: .*{says}")
    assert [line["event"] for line in one.log()] == ["in", "refused", "out"]
    assert "takes no part" in one.log()[1]["reason"]


def test_no_program_is_started_that_the_policy_does_not_list_word_for_word(bench: Making) -> None:
    """A run comes from the server; what it names must not run at a hospital that did not say so."""
    program = ("find-brain", "{input}", "{output}")
    prepare = {"mask": "command", "mask_command": program}
    for listed in ((), (("find-brain",),), ((*program, "--fast"),)):
        one = bench(prepare=prepare, policy=policy(programs=listed))
        one.refused("it would start the program 'find-brain {input} {output}'; policy.programs")
        assert one.opened == 0
    bench(prepare=prepare, policy=policy(programs=(program,))).engine.join(0)
    own = bench(policy=policy())
    own.engine.join(0)


def test_a_policy_may_allow_one_run_alone_by_its_digest(bench: Making) -> None:
    digest = bench().run.digest()
    bench(policy=policy(runs=(digest,))).engine.join(0)
    changed = bench(policy=policy(runs=(digest,)), training={"learning_rate": 0.125})
    changed.refused("not among policy.runs")


def test_exactly_the_limits_are_allowed(bench: Making) -> None:
    bench(policy=policy(max_rounds=3, max_bytes_per_round=20, leaves=("body.*",))).engine.join(0)


def test_a_policy_may_ask_for_clipping_and_for_types_of_values(bench: Making) -> None:
    asked = {"clip_at_most": 1.0, "values": ("int8",)}
    for values, clip, says in (
        ("int8", 1.5, "clips at 1.5"),
        ("bfloat16", 1.0, "sends bfloat16"),
        ("int8", 1.0, None),
        ("int8", 0.5, None),
    ):
        one = bench(policy=policy(exchange=asked), exchange={"values": values, "clip": clip})
        if says:
            one.refused(f"site0: takes no part: it {says}")
        else:
            one.engine.join(0)


def test_the_limit_of_bytes_is_that_of_what_leaves(bench: Making) -> None:
    """Three int8, a scale, a counter; as they are they would be 20 bytes."""
    small = {
        "exchange": {"values": "int8"},
        "policy": policy(max_bytes_per_round=15, leaves=("body.w", "body.steps")),
    }
    one = bench(**small)
    one.engine.join(0)
    (message,) = one.engine.visit(0, one.crew.initial(), [SITE])
    assert set(message.tensors) == {"body.w", "body.w:scale", "body.steps"}
    assert message.facts["bytes_out"] == 15
    assert message.facts["bytes_in"] == 20
    bench(**{**small, "policy": policy(max_bytes_per_round=14)}).refused("15 bytes would leave")


def test_a_method_that_pools_data_takes_no_part(bench: Making, tmp_path: Path) -> None:
    one = bench()
    run = recipe.build(toy_raw(1, algorithm={"name": "central"})).agreed()
    with pytest.raises(ConfigError, match="pools the data"):
        create_served(run, tmp_path / "server")
    assert not (tmp_path / "server").exists()
    answer = one.ask(kind="join", run=run.digest(), tensors={}, facts={"run": run.model_dump(mode="json")})
    assert "pools the data" in answer.head.facts["reason"]
    assert one.opened == 0


# --- what is not as agreed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"kind": "shell"}, "asks for 'shell'"),
        ({"site": "site1"}, "sent site 'site1'"),
        ({"run": "0" * 64}, "sent run"),
        ({"plan": "0" * 64}, "sent plan"),
        ({"round": 3}, "asks for round 3 of a run with 3"),
        ({"round": -1}, "asks for round -1"),
        ({"kind": "finish", "round": 2}, "sent round 2"),
        ({"tensors": {}}, "'body.steps' is missing"),
        ({"kind": "join", "tensors": {}, "facts": {"run": 5}}, "names no run"),
        ({"kind": "join", "tensors": {}, "facts": {"run": {"name": "x"}}}, "this key is required"),
    ],
)
def test_a_request_that_is_not_as_agreed_is_refused(bench: Making, over: dict[str, Any], says: str) -> None:
    one = bench()
    one.engine.join(0)
    answer = one.ask(**over)
    assert answer.head.kind == "refused"
    assert says in answer.head.facts["reason"]
    assert not (one.folder / "site" / "sites").exists()
    assert one.ask().head.kind == "refused"  # after a refusal the run has to be joined anew
    one.engine.join(0)
    assert one.ask().head.kind == "worked"


def test_a_run_whose_digest_is_another_here_is_refused(bench: Making) -> None:
    one = bench()
    other = one.run.model_copy(update={"seed": 8}).model_dump(mode="json")
    answer = one.ask(kind="join", tensors={}, facts={"run": other})
    assert "another digest here" in answer.head.facts["reason"]
    assert one.opened == 0


@pytest.mark.parametrize("data", [b"", b"hello", bytes(10_000_000)])
def test_bytes_that_are_no_payload_get_an_answer(bench: Making, data: bytes) -> None:
    one = bench()
    answer = wire.read(b"".join(one.outpost.answer(data)), SITE, wire.most_bytes({}))
    assert answer.head.kind == "refused"
    assert [line["event"] for line in one.log()] == ["refused", "out"]


def test_a_round_that_the_site_cannot_do_is_refused(bench: Making) -> None:
    one = bench()
    one.engine.join(0)
    assert one.ask(round=2).head.kind == "refused"
    assert "round-000002" in one.told[-1]


def test_a_hospital_that_refused_a_run_hears_that_it_has_stopped(bench: Making) -> None:
    one = bench(policy=policy(runs=("other",)))
    one.refused("not among policy.runs")
    answer = one.ask(kind="stop", tensors={}, facts={"reason": "site0: takes no part"})
    assert answer.head.kind == "stopped"
    assert one.told[-1] == "site0: the server has stopped the run: site0: takes no part"
    assert one.outpost.outcome == "refused"
    assert [line["event"] for line in one.log()].count("refused") == 1


# --- what leaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [DataError("sub-03 at /data/x: is torn"), RuntimeError("sub-03 at /data/x")]
)
def test_the_words_of_an_error_stay_at_the_hospital(bench: Making, error: Exception) -> None:
    def opening(crew: Crew) -> None:
        raise error

    one = bench(opening=opening)
    message = one.refused("its own terminal says why", opened=1)
    assert "sub-03" not in message
    assert "/data" not in message
    assert "sub-03" in one.told[-1]


def test_values_that_are_not_finite_do_not_leave(bench: Making) -> None:
    one = bench(training={"learning_rate": 10.0, "steps_per_round": 200})
    one.engine.join(0)
    with pytest.raises(PolysiteError, match=r"site0: .*not finite after round 0"):
        list(one.engine.visit(0, one.crew.initial(), [SITE]))
    assert [line["kind"] for line in one.log() if line["event"] == "out"] == ["joined", "refused"]


def test_the_log_tells_of_no_answer_that_did_not_leave(bench: Making) -> None:
    """The hospital's events cannot be written when its round is done."""
    one = bench()
    one.engine.join(0)

    def full(crew: Crew, event: dict[str, Any]) -> None:
        raise CheckpointError("events.jsonl: cannot be written")

    one.outpost._emit = full
    with pytest.raises(PolysiteError, match="its own terminal says why"):
        list(one.engine.visit(0, one.crew.initial(), [SITE]))
    assert [line["kind"] for line in one.log() if line["event"] == "out"] == ["joined", "refused"]


def test_a_method_cannot_send_what_the_policy_withholds(bench: Making) -> None:
    """The names are compared again when they are about to leave."""
    one = bench()
    one.engine.join(0)
    one.outpost._policy = policy(leaves=("body.w",))
    with pytest.raises(PolysiteError, match=r"'body.steps' would leave"):
        list(one.engine.visit(0, one.crew.initial(), [SITE]))


def test_an_answer_is_in_both_logs_with_one_digest(bench: Making) -> None:
    one = bench()
    one.engine.join(0)
    federate(one.crew, one.engine, lambda event: None)
    site, server = one.log(), verify(one.folder / "server.jsonl")
    both = [
        [
            (line["kind"], line["round"], line["sha256"], line["tensors"])
            for line in log
            if line["event"] == event
        ]
        for log, event in ((site, "out"), (server, "in"), (site, "in"), (server, "out"))
    ]
    assert both[0] == both[1]
    assert both[2] == both[3]
    assert [kind for kind, *_ in both[0]] == ["joined", "worked", "worked", "worked"]
    assert both[0][1][3] == [["body.steps", "int64", []], ["body.w", "float32", [3]]]


# --- the server's end -----------------------------------------------------------------------------------


class Lying:
    """Answers with whatever it is told to."""

    def __init__(
        self, outpost: Outpost, change: Callable[[wire.Head], wire.Head], tensors: Any = None
    ) -> None:
        self.outpost, self.change, self.tensors = outpost, change, tensors
        self.site = outpost.site

    def answer(self, data: bytes) -> Sequence[memoryview]:
        answer = wire.read(b"".join(self.outpost.answer(data)), SITE, 1 << 30)
        shared = {} if answer.head.kind == "joined" else dict(self.outpost._crew.plans[SITE].sent)
        tensors = answer.tensors(shared) if self.tensors is None else self.tensors
        return wire.encode(self.change(answer.head), tensors)

    def leave(self) -> None:
        self.outpost.leave()


def with_facts(**facts: Any) -> Callable[[wire.Head], wire.Head]:
    return lambda head: wire.Head(**{**vars(head), "facts": {**head.facts, **facts}})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_facts(n_samples=0), "n_samples"),
        (with_facts(n_samples=2.5), "n_samples"),
        (with_facts(n_samples=True), "n_samples"),
        (with_facts(seconds=-1), "seconds"),
        (with_facts(seconds="1"), "seconds"),
        (with_facts(losses={"loss": "sub-03"}), "losses"),
        (with_facts(losses=None), "losses"),
        (with_facts(validation=[1]), "validation"),
        (with_facts(note="sub-03"), "'note'"),
        (lambda head: wire.Head(**{**vars(head), "site": "site9"}), "sent site 'site9'"),
        (lambda head: wire.Head(**{**vars(head), "round": 1}), "sent round 1"),
        (lambda head: wire.Head(**{**vars(head), "kind": "joined"}), "is not in the share plan"),
    ],
)
def test_the_server_takes_only_answers_to_what_it_asked(
    bench: Making, change: Callable[[wire.Head], wire.Head], says: str
) -> None:
    one = bench()
    one.engine.join(0)
    one.engine._carrier.outposts[SITE] = Lying(one.outpost, change)
    with pytest.raises(PolysiteError, match=f"site0: .*{says}"):
        list(one.engine.visit(0, one.crew.initial(), [SITE]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"body.w:scale": torch.tensor(-0.5)}, "'body.w' has scales below 0"),
        ({"body.w:scale": torch.tensor(float("nan"))}, "'body.w:scale' has values that are not finite"),
        ({"body.w:scale": torch.tensor(float("inf"))}, "'body.w:scale' has values that are not finite"),
        (
            {"body.w:scale": torch.tensor(3e38), "body.w": torch.tensor([2, 0, 0], dtype=torch.int8)},
            "'body.w' has scales that are too large",
        ),
        ({"body.w:scale": torch.ones(3)}, "'body.w:scale' is 'F32'"),
        ({"body.w": torch.tensor([-128, 0, 0], dtype=torch.int8)}, "'body.w' has numbers below -127"),
        ({"body.w": torch.zeros(3)}, "'body.w' is 'F32'"),
        ({"body.w": torch.zeros(3, dtype=torch.uint8)}, "'body.w' is 'U8'"),
        ({"body.w:scale": None}, "'body.w:scale' is missing"),
        ({"body.steps:scale": torch.tensor(1.0)}, "'body.steps:scale' is not in the share plan"),
    ],
    ids=repr,
)
def test_the_server_takes_only_int8_as_a_site_makes_it(
    bench: Making, wrong: dict[str, torch.Tensor | None], says: str
) -> None:
    one = bench(exchange={"values": "int8"})
    one.engine.join(0)
    good = {
        "body.w": torch.zeros(3, dtype=torch.int8),
        "body.w:scale": torch.tensor(1.0),
        "body.steps": torch.tensor(2),
    }
    sent = {name: tensor for name, tensor in {**good, **wrong}.items() if tensor is not None}
    one.engine._carrier.outposts[SITE] = Lying(one.outpost, lambda head: head, sent)
    with pytest.raises(PolysiteError, match=f"site0: .*{says}"):
        federate(one.crew, one.engine, lambda event: None)


def test_a_site_that_has_lost_rounds_cannot_go_on(bench: Making) -> None:
    one = bench()
    with pytest.raises(PolysiteError, match="holds nothing but the server is at round-000002"):
        one.engine.join(2)


def test_the_reason_of_a_refusal_is_plain_text(bench: Making) -> None:
    one = bench()

    def change(head: wire.Head) -> wire.Head:
        return wire.Head(
            **{**vars(head), "kind": "refused", "facts": {"reason": "no\x1b[2J\nmore" + "x" * 9999}}
        )

    one.engine._carrier.outposts[SITE] = Lying(one.outpost, change)
    with pytest.raises(PolysiteError) as caught:
        one.engine.join(0)
    assert str(caught.value).startswith("no [2J more")
    assert len(str(caught.value)) <= 1000


def test_facts_that_may_leave_are_numbers_and_known() -> None:
    facts = {
        "losses": {"a": 1.0, "b": float("nan")},
        "validation": None,
        "n_samples": 3,
        "secret": "x",
        "bytes_in": 1,
        "bytes_out": 2,
        "seconds": 0.5,
    }
    sent = sendable(facts)
    assert "secret" not in sent
    assert sent["losses"] == {"a": 1.0, "b": None}
    back = received(sent, "north")
    assert back["losses"]["a"] == 1.0
    assert back["losses"]["b"] != back["losses"]["b"]

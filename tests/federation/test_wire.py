"""A payload is read strictly: what was sent comes back bit by bit, and nothing else is ever taken."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from polysite.errors import WireError
from polysite.federation import wire
from polysite.federation.share import fingerprint

SHARED = {
    "body.w": torch.tensor([[1.5, -2.0], [0.0, 3e-30]]),
    "body.half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "body.steps": torch.tensor(7),
    "body.mask": torch.tensor([True, False, True]),
    "body.empty": torch.zeros(0, 3),
}
LIMIT = wire.most_bytes(SHARED)


def head(**over: Any) -> wire.Head:
    usual = wire.Head("round", "r" * 64, fingerprint(SHARED), "north", 3, "0" * 64, {"n_samples": 4})
    return replace(usual, **over)


def sealed(content: bytes) -> bytes:
    """Content with a digest that fits, as a forger would make it."""
    start = 12 + int.from_bytes(content[8:12], "little")
    body = hashlib.sha256(content[start:]).digest()
    return content + hashlib.sha256(content[:start] + body).digest()


def forged(head: Mapping[str, Any] | bytes, body: bytes) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return sealed(wire.MAGIC + len(text).to_bytes(4, "little") + text + body)


def encoded(head: wire.Head, tensors: Mapping[str, Tensor]) -> bytes:
    return b"".join(wire.encode(head, tensors))


def raw_head(**over: Any) -> dict[str, Any]:
    return {"format": wire.FORMAT, **vars(head()), **over}


def header(entries: Mapping[str, Any], values: bytes) -> bytes:
    """A safetensors file from a header of any content."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + values


def taken(data: bytes, shared: Mapping[str, Tensor] = SHARED) -> dict[str, Tensor]:
    return wire.read(data, "north", LIMIT).tensors(shared)


def test_what_was_sent_comes_back() -> None:
    parts = wire.encode(head(), SHARED)
    data = b"".join(parts)
    payload = wire.read(data, "north", LIMIT)
    assert payload.head == head()
    assert payload.n_bytes == wire.size_of(parts) == len(data)
    assert (
        payload.digest == wire.digest_of(parts) == wire.digest_made_of(data) == sealed(data[:-32])[-32:].hex()
    )
    back = payload.tensors(SHARED)
    assert list(back) == list(SHARED)
    for name, tensor in SHARED.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert torch.equal(back[name], tensor)


def test_the_body_is_a_file_that_safetensors_reads() -> None:
    data = encoded(head(), SHARED)
    length = int.from_bytes(data[8:12], "little")
    found = load(data[12 + length : -wire.SEAL_BYTES])
    assert {name: (t.dtype, t.tolist()) for name, t in found.items()} == {
        name: (t.dtype, t.tolist()) for name, t in SHARED.items()
    }


def test_tensors_lie_in_the_payload_if_it_can_be_written_to() -> None:
    """100 MB are not copied once more; what is read from bytes that cannot change is a copy."""
    for room, shares in ((bytearray, True), (bytes, False)):
        data = room(encoded(head(facts={"pad": "x" * 3}), SHARED))
        tensors = taken(memoryview(data))
        assert tensors["body.w"].tolist() == SHARED["body.w"].tolist()
        before = np.frombuffer(data, np.uint8).copy()
        tensors["body.w"][0, 0] += 1
        assert np.array_equal(before, np.frombuffer(data, np.uint8)) != shares


def test_what_begins_between_items_is_copied() -> None:
    data = memoryview(bytearray(b"-" + encoded(head(), SHARED)))[1:]
    assert {name: t.tolist() for name, t in taken(data).items()} == {
        name: t.tolist() for name, t in SHARED.items()
    }


def test_a_type_that_is_not_checked_is_not_sent() -> None:
    with pytest.raises(WireError, match=r"'x' is torch\.complex64: tensors of this type"):
        encoded(head(), {"x": torch.zeros(2, dtype=torch.complex64)})


def test_the_same_content_gives_the_same_bytes() -> None:
    backwards = dict(reversed(SHARED.items()))
    assert encoded(head(), SHARED) == encoded(head(), backwards)


def test_a_truth_value_is_0_or_1() -> None:
    data = encoded(head(), SHARED)
    place = data.rindex(b"\1\0\1", 0, -32)
    with pytest.raises(WireError, match=r"'body.mask' has truth values"):
        taken(sealed(data[:place] + b"\2" + data[place + 1 : -32]))


def test_what_comes_back_can_be_written_to() -> None:
    taken(encoded(head(), SHARED))["body.w"].add_(1)


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in SHARED.items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (without("body.w"), ["north", "'body.w'", "is missing"]),
        ({**SHARED, "head.w": torch.zeros(2)}, ["north", "'head.w'", "not in the share plan"]),
        ({**SHARED, "body.w": torch.zeros(4)}, ["north", "'body.w'", "[4]", "[2, 2]"]),
        ({**SHARED, "body.w": torch.zeros(2, 2, dtype=torch.float64)}, ["north", "'body.w'", "F64"]),
        ({**SHARED, "body.steps": torch.tensor(7.0)}, ["north", "'body.steps'", "F32", "int64"]),
        ({**SHARED, "body.w": torch.full((2, 2), torch.nan)}, ["north", "'body.w'", "not finite"]),
        (
            {**SHARED, "body.half": torch.tensor([1, torch.inf], dtype=torch.bfloat16)},
            ["'body.half'", "not finite"],
        ),
    ],
)
def test_other_tensors_than_the_plans_are_refused(tensors: dict[str, Tensor], says: list[str]) -> None:
    with pytest.raises(WireError) as caught:
        taken(encoded(head(), tensors))
    assert all(word in str(caught.value) for word in says), caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "join"), ("run", "s" * 64), ("plan", "s" * 64), ("site", "south"), ("round", 4)],
)
def test_a_head_that_says_something_else_is_refused(field: str, value: Any) -> None:
    payload = wire.read(encoded(head(), SHARED), "north", LIMIT)
    payload.require(**{field: getattr(head(), field)})
    with pytest.raises(WireError, match=f"north: sent {field}"):
        payload.require(**{field: value})


def shifted(entries: dict[str, Any]) -> dict[str, Any]:
    name = min(entries)
    first, last = entries[name]["data_offsets"]
    return {**entries, name: {**entries[name], "data_offsets": [first + 1, last + 1]}}


def overlapping(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: {**entry, "data_offsets": [0, entry["data_offsets"][1]]} for name, entry in entries.items()}


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (shifted, "lies at"),
        (overlapping, "lies at"),
        (lambda entries: {**entries, "__metadata__": {"patient": "x"}}, "not in the share plan"),
        (lambda entries: {**entries, "body.w": 5}, "no entry"),
        (lambda entries: {**entries, "body.w": {**entries["body.w"], "more": 1}}, "no entry"),
        (lambda entries: {**entries, "body.w": {**entries["body.w"], "data_offsets": "ab"}}, "lies at"),
        (lambda entries: {**entries, "body.w": {**entries["body.w"], "data_offsets": [True, 16]}}, "lies at"),
        (lambda entries: {**entries, "body.w": {**entries["body.w"], "dtype": ["F32"]}}, "body.w"),
        (lambda entries: [1, 2], "no JSON object"),
    ],
)
def test_a_forged_header_is_refused(change: Change, says: str) -> None:
    body = save(SHARED)
    length = int.from_bytes(body[:8], "little")
    entries = json.loads(body[8 : 8 + length])
    values = body[8 + length :]
    assert taken(forged(raw_head(), header(entries, values))).keys() == SHARED.keys()
    with pytest.raises(WireError, match=says):
        taken(forged(raw_head(), header(change(entries), values)))


@pytest.mark.parametrize("change", [lambda values: values + b"\0", lambda values: values[:-1], lambda _: b""])
def test_more_or_fewer_values_are_refused(change: Callable[[bytes], bytes]) -> None:
    body = save(SHARED)
    length = int.from_bytes(body[:8], "little")
    with pytest.raises(WireError, match="bytes of tensors"):
        taken(forged(raw_head(), body[: 8 + length] + change(body[8 + length :])))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no payload"),
        (b"PK\x03\x04" + bytes(100), "no payload"),
        (sealed(wire.MAGIC), "no payload"),
        (sealed(wire.MAGIC + b"\xff\xff\xff\xff"), "the head is"),
        (sealed(wire.MAGIC + (100).to_bytes(4, "little") + b"{}"), "the head is"),
        (forged(b"\xff\xfe", b""), "no JSON"),
        (forged(b"[" * 100_000, b""), "no JSON"),
        (forged(b"[1]", b""), "no JSON object"),
        (forged(b'{"format": 1, "format": 1}', b""), "a key twice"),
        (forged(raw_head(format=1), b""), "speaks format 1"),
        (forged(raw_head(more=2), b""), "the head has the keys"),
        (forged(raw_head(round="3"), b""), "round in the head"),
        (forged(raw_head(round=True), b""), "round in the head"),
        (forged(raw_head(facts=[]), b""), "facts in the head"),
        (forged(raw_head(facts={"x": float("nan")}), b""), "NaN is no number"),
        (
            forged({key: value for key, value in raw_head().items() if key != "log"}, b""),
            "the head has the keys",
        ),
    ],
)
def test_what_is_no_payload_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(WireError, match=f"^north: .*{says}"):
        wire.read(data, "north", LIMIT)


def test_too_long_is_refused_before_anything_is_read() -> None:
    with pytest.raises(WireError, match=f"north: sent {LIMIT + 1} bytes where at most {LIMIT} are due"):
        wire.read(bytes(LIMIT + 1), "north", LIMIT)
    assert len(encoded(head(facts={"x": "y" * (wire.HEAD_BYTES - 1000)}), SHARED)) < LIMIT


def test_a_head_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireError, match="the head has"):
        encoded(head(facts={"x": "y" * wire.HEAD_BYTES}), {})


@pytest.mark.parametrize("fact", [float("nan"), {1, 2}, torch.zeros(1)])
def test_facts_that_are_no_json_are_not_sent(fact: Any) -> None:
    with pytest.raises(WireError, match="north: a fact of round 3"):
        encoded(head(facts={"x": fact}), {})


DATA = encoded(head(), SHARED)


@given(place=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_every_flipped_bit_is_found(place: int, bit: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= 1 << bit
    with pytest.raises(WireError, match=r"^north: "):
        taken(bytes(damaged))


@given(st.integers(0, len(DATA) - 1))
@settings(deadline=None)
def test_every_cut_is_found(length: int) -> None:
    with pytest.raises(WireError, match=r"^north: "):
        taken(DATA[:length])


@given(st.binary(max_size=300), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_in_words(content: bytes, with_head: bool, with_seal: bool) -> None:
    """Nothing but a WireError comes out of reading, whatever goes in."""
    data = forged(raw_head(), content) if with_head else content
    if with_seal:
        data = sealed(wire.MAGIC + content)
    with pytest.raises(WireError):
        taken(data)


VALUES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
        st.lists(VALUES, max_size=8),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), VALUES, st.none(), st.text(max_size=5))),
)
@settings(deadline=None)
def test_any_names_values_and_facts_come_back(tensors: dict[str, list[float]], facts: dict[str, Any]) -> None:
    shared = {
        name: torch.from_numpy(np.asarray(values, dtype=np.float32)) for name, values in tensors.items()
    }
    payload = wire.read(encoded(head(facts=facts), shared), "north", wire.most_bytes(shared))
    assert payload.head.facts == facts
    back = payload.tensors(shared)
    assert all(back[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in shared.items())

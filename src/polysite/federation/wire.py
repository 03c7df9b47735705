"""What goes over the wire between server and hospital: bytes, read strictly, nothing pickled.

====================  =====================================================================================
8 bytes               ``POLYSITE``
4 bytes               length of the head, little-endian
head                  JSON: format, kind, run, plan, site, round, log, facts
body                  the tensors by name, as a safetensors file
32 bytes              SHA-256 of everything before the body, and the body's SHA-256: the payload's digest, which
                      both ends write into their logs
====================  =====================================================================================

The body is hashed by itself because it goes to many sites, and lies in a site's store.

Nothing is believed before it is checked: size, digest and head first, then that the body holds exactly the tensors
that the receiver's own share plan names, in their shapes and types, without gaps, and finite.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from polysite.errors import WireError
from polysite.federation.sound import finite
from polysite.federation.tensor_files import TYPES, TensorFile, aligned, n_bytes

FORMAT = 2
MAGIC = b"POLYSITE"
HEAD_BYTES = 1 << 20
"""The most that a head may have."""
SEAL_BYTES = 32
ENTRY_BYTES = 256
"""The most that a tensor's entry in a safetensors header has beside its name."""
UNSENT = frozenset(
    {torch.complex64, torch.uint64, torch.uint32, torch.uint16, torch.float8_e4m3fn, torch.float8_e5m2}
)
"""Types that no method shares, and nothing that arrives is checked for."""


@dataclass(frozen=True)
class Head:
    """What a payload is about.

    Parameters
    ----------
    kind : str
        What is asked or answered: ``join``, ``round``, ``finish``, ``refused``.
    run, plan : str
        Digests of the agreed run and of what this site shares.
    log : str
        Hash of the last line of the sender's audit log, so that a log cannot be cut short unnoticed.
    facts : mapping
        JSON.
    """

    kind: str
    run: str
    plan: str
    site: str
    round: int
    log: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Payload:
    """A payload whose digest and head are in order; its tensors are still to be read."""

    head: Head
    digest: str
    n_bytes: int
    body: memoryview
    sender: str

    def require(self, **expected: Any) -> None:
        """Refuse a head that does not say what was expected.

        Raises
        ------
        WireError
            Of the first field that differs.
        """
        for name, value in expected.items():
            found = getattr(self.head, name)
            if found != value:
                hint = "; the same version of Polysite is needed at both ends" if name == "plan" else ""
                raise WireError(f"{self.sender}: sent {name} {found!r:.80} where {value!r:.80} is due{hint}")

    def tensors(self, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The body's tensors, exactly those of a share plan; in the payload's own memory, where that can be.

        Raises
        ------
        WireError
            Names the sender and the tensor.
        """
        start, entries = self._entries(shared)
        tensors = {}
        for name, planned in shared.items():
            first, last = entries[name]
            values = self.body[start + first : start + last]
            if planned.dtype == torch.bool and (np.frombuffer(values, np.uint8) > 1).any():
                raise self._wrong(name, "has truth values other than 0 and 1")
            tensors[name] = _tensor(values, planned)
            if not finite(tensors[name]):
                raise self._wrong(name, "has values that are not finite")
        return tensors

    def _entries(self, shared: Mapping[str, Tensor]) -> tuple[int, dict[str, tuple[int, int]]]:
        """First byte of the values, and each tensor's first and last byte from there."""
        start, header = self._header(shared)
        if missing := shared.keys() - header.keys():
            raise self._wrong(min(missing), "is missing")
        if extra := header.keys() - shared.keys():
            raise self._wrong(min(extra), "is not in the share plan")
        for name, planned in shared.items():
            entry = header[name]
            if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
                raise self._wrong(name, "has no entry as safetensors has them")
            if entry["shape"] != list(planned.shape) or TYPES.get(str(entry["dtype"])) != planned.dtype:
                raise self._wrong(
                    name,
                    f"is {entry['dtype']!r:.20} {entry['shape']!r:.60}, not {planned.dtype} {list(planned.shape)}",
                )
        due, found = 0, {}
        for name in sorted(shared, key=lambda name: _order(header[name]["data_offsets"])):
            offsets, planned = header[name]["data_offsets"], shared[name]
            n = planned.numel() * planned.element_size()
            if offsets != [due, due + n]:
                raise self._wrong(name, f"lies at {offsets!r:.60}, not at {[due, due + n]}")
            found[name] = (due, due := due + n)
        if start + due != len(self.body):
            raise WireError(f"{self.sender}: sent {len(self.body)} bytes of tensors, not {start + due}")
        return start, found

    def _header(self, shared: Mapping[str, Tensor]) -> tuple[int, dict[str, Any]]:
        length = int.from_bytes(self.body[:8], "little")
        if length > header_bytes(shared) or 8 + length > len(self.body):
            raise WireError(f"{self.sender}: the tensors' header is {length} bytes long, more than it can be")
        return 8 + length, _json(self.body[8 : 8 + length], f"{self.sender}: the tensors' header")

    def _wrong(self, name: str, what: str) -> WireError:
        return WireError(f"{self.sender}: {str(name)[:200]!r} {what} (round {self.head.round})")


def _tensor(values: memoryview, planned: Tensor) -> Tensor:
    """The bytes as a tensor: where they lie, if they can be written to and begin where its items may."""
    if not len(values):
        return torch.empty(planned.shape, dtype=planned.dtype)
    if not values.readonly:
        there = np.frombuffer(values, np.uint8)
        if there.ctypes.data % planned.element_size() == 0:
            return torch.from_numpy(there).view(planned.dtype).reshape(planned.shape)
    tensor = torch.empty(planned.shape, dtype=planned.dtype)
    tensor.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(values, np.uint8)
    return tensor


def _order(offsets: Any) -> tuple[int, ...]:
    """Something to sort by, whatever was sent."""
    fits = isinstance(offsets, list) and all(type(value) is int for value in offsets)
    return tuple(offsets) if fits else ()


def header_bytes(shared: Mapping[str, Tensor]) -> int:
    """The most that a safetensors header of these tensors has."""
    return ENTRY_BYTES + sum(len(json.dumps(name)) + ENTRY_BYTES for name in shared)


def most_bytes(shared: Mapping[str, Tensor]) -> int:
    """The most that a payload with these tensors has."""
    values = n_bytes(shared.values())
    return len(MAGIC) + 4 + HEAD_BYTES + 8 + header_bytes(shared) + values + SEAL_BYTES


def encode(head: Head, tensors: Mapping[str, Tensor]) -> tuple[memoryview, ...]:
    """One payload in parts; the tensors' parts are their own memory, so nobody may change them until it is sent.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        A `TensorFile` is hashed once, however many payloads it is the body of.

    Raises
    ------
    WireError
        If the head is too long, a fact is no JSON, or a tensor is of a type that is not sent.
    """
    try:
        text = json.dumps({"format": FORMAT, **asdict(head)}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"{head.site}: a fact of round {head.round} is no JSON: {error}") from error
    if len(text) > HEAD_BYTES:
        raise WireError(f"{head.site}: the head has {len(text)} bytes; at most {HEAD_BYTES}")
    text = aligned(text, len(MAGIC) + 4)
    for name, tensor in tensors.items():
        if tensor.dtype in UNSENT:
            raise WireError(f"{name!r} is {tensor.dtype}: tensors of this type cannot be sent")
    body = TensorFile.of(tensors)
    start = MAGIC + len(text).to_bytes(4, "little") + text
    seal = hashlib.sha256(start + body.sha256).digest()
    return memoryview(start), *body.parts, memoryview(seal)


def size_of(data: Sequence[memoryview]) -> int:
    """Bytes of a payload in parts."""
    return sum(len(part) for part in data)


def digest_of(data: Sequence[memoryview]) -> str:
    """The digest of a payload in parts, as it says itself."""
    return data[-1].hex()


def digest_made_of(data: bytes | memoryview) -> str:
    """The digest that a payload's bytes have, whatever they are and say."""
    return _made(memoryview(data)).hex()


def _made(data: memoryview) -> bytes:
    """The digest of all but the last bytes, in which a payload says its own."""
    start = len(MAGIC) + 4
    body = start + int.from_bytes(data[len(MAGIC) : start], "little")
    made = hashlib.sha256(data[:-SEAL_BYTES][:body])
    made.update(hashlib.sha256(data[:-SEAL_BYTES][body:]).digest())
    return made.digest()


def read(data: bytes | memoryview, sender: str, limit: int) -> Payload:
    """The head of a payload, once its size and digest are in order.

    Parameters
    ----------
    sender : str
        Who sent it, for messages.
    limit : int
        The most bytes that it may have; see `most_bytes`.

    Raises
    ------
    WireError
        Names the sender.
    """
    if len(data) > limit:
        raise WireError(f"{sender}: sent {len(data)} bytes where at most {limit} are due")
    view = memoryview(data)
    start = len(MAGIC) + 4
    if len(data) < start + SEAL_BYTES or view[: len(MAGIC)] != MAGIC:
        raise WireError(f"{sender}: sent something that is no payload of Polysite ({len(data)} bytes)")
    end = len(data) - SEAL_BYTES
    if _made(view) != view[end:]:
        raise WireError(f"{sender}: the payload was damaged on its way (its SHA-256 does not fit)")
    length = int.from_bytes(view[len(MAGIC) : start], "little")
    if length > HEAD_BYTES or start + length > end:
        raise WireError(f"{sender}: the head is {length} bytes long, more than it can be")
    raw = _json(view[start : start + length], f"{sender}: the head")
    found = raw.pop("format", None)
    if found != FORMAT:
        raise WireError(f"{sender}: speaks format {found!r:.40}; this Polysite speaks {FORMAT}")
    if raw.keys() != {field.name for field in fields(Head)}:
        raise WireError(f"{sender}: the head has the keys {', '.join(sorted(raw))[:200]}")
    for field in fields(Head):
        kind = {"round": int, "facts": dict}.get(field.name, str)
        if type(raw[field.name]) is not kind:
            raise WireError(f"{sender}: {field.name} in the head is {raw[field.name]!r:.60}")
    return Payload(Head(**raw), view[end:].hex(), len(data), view[start + length : end], sender)


def _json(data: memoryview, what: str) -> dict[str, Any]:
    """A JSON object that has no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key twice")
        return found

    def no_number(text: str) -> float:
        raise ValueError(f"{text} is no number")

    try:
        found = json.loads(bytes(data).decode("utf-8"), object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{what} is no JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise WireError(f"{what} is no JSON object")
    return cast(dict[str, Any], found)

"""Named tensors as one safetensors file: laid out where they lie, written whole, read by name."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polysite.errors import CheckpointError, PolysiteError

REMEDY = "restore it from a backup, or remove this folder if an earlier round-* folder lies beside it"
TYPES = {
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F32": torch.float32,
    "U32": torch.uint32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Letters in a safetensors header -> type; in the order in which safetensors lays tensors out, large items first."""
_LETTERS = {kind: letters for letters, kind in TYPES.items()}
_PLACES = {kind: place for place, kind in enumerate(TYPES.values())}
ALIGNMENT = 8
"""Bytes of the largest item."""


class TensorFile(Mapping[str, Tensor]):
    """Tensors by name, and the safetensors file that they are: its bytes lie where the tensors lie.

    The bytes are those that safetensors' own writer gives, which copies everything; the same tensors give the same
    bytes, in whatever order. Nobody may change the tensors any more.

    Raises
    ------
    PolysiteError
        If a tensor is of a type that is not among `TYPES`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self.parts: tuple[memoryview, ...] = _laid_out(self._tensors)
        """The file's bytes, one after another."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "TensorFile":
        """The file that tensors are already, or a new one."""
        return tensors if isinstance(tensors, TensorFile) else cls(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @cached_property
    def sha256(self) -> bytes:
        """Of the file; kept for whoever needs it next."""
        made = hashlib.sha256()
        for part in self.parts:
            made.update(part)
        return made.digest()

    def write(self, file: Path) -> None:
        """Write the file; it may not be on the disk yet."""
        with file.open("wb", buffering=0) as out:
            for part in self.parts:
                while len(part):
                    part = part[out.write(part) :]


def _laid_out(tensors: Mapping[str, Tensor]) -> tuple[memoryview, ...]:
    """A safetensors file in parts: the length of its header, the header, and each tensor's own memory."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _LETTERS:
            raise PolysiteError(f"{name!r} is {tensor.dtype}: tensors of this type cannot be kept")
    entries, end = {}, 0
    names = sorted(tensors, key=lambda name: (_PLACES[tensors[name].dtype], name))
    for name in names:
        start, end = end, end + n_bytes([tensors[name]])
        entries[name] = {
            "dtype": _LETTERS[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    header = aligned(json.dumps(entries, separators=(",", ":")).encode(), 8)
    values = [
        tensors[name].reshape(-1).view(torch.uint8).numpy().data for name in names if tensors[name].numel()
    ]
    return memoryview(len(header).to_bytes(8, "little")), memoryview(header), *values


def aligned(text: bytes, before: int) -> bytes:
    """JSON with blanks behind it, so that what follows begins at a multiple of the largest item."""
    return text + b" " * (-(before + len(text)) % ALIGNMENT)


@contextmanager
def _readable(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as content:
            yield content
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); {REMEDY}") from error


def read_tensors(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file whose names begin with a prefix, by the rest of the name."""
    with _readable(file) as content:
        return {
            name[len(prefix) :]: content.get_tensor(name)
            for name in content.keys()  # noqa: SIM118 (it is no mapping)
            if name.startswith(prefix)
        }


def read_in_place(file: Path, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a safetensors file by name; those with a target are read into it, without new memory.

    A target takes part if it lies on the CPU, without gaps, and has the stored shape and type; its tensor is then
    the target itself. New memory costs several times the reading, because the system hands it out page by page.
    """
    with _readable(file) as content:
        names = list(content.keys())
        with file.open("rb", buffering=0) as raw:
            places = _places(raw)

            def take(name: str) -> Tensor:
                target = targets.get(name)
                entry, start = places[name]
                if target is None or not _fits(target, entry):
                    own: Tensor = content.get_tensor(name)
                    return own
                room = target.detach().reshape(-1).view(torch.uint8).numpy().data
                if os.preadv(raw.fileno(), [room], start) != len(room):
                    raise CheckpointError(f"{file}: is cut short; {REMEDY}")
                return target

            with ThreadPoolExecutor(_READERS) as pool:
                return dict(zip(names, pool.map(take, names), strict=True))


_READERS = 2
"""Threads that read one file: the system copies from its cache, each on a processor of its own."""


def _places(raw: BinaryIO) -> dict[str, tuple[dict[str, Any], int]]:
    """Header entry and first byte of every tensor; the header's form was checked when the file was opened.

    The format: 8 bytes of length, little-endian, so many bytes of JSON, then the tensors' bytes.
    """
    length = int.from_bytes(raw.read(8), "little")
    entries = json.loads(raw.read(length))
    entries.pop("__metadata__", None)
    return {name: (entry, 8 + length + entry["data_offsets"][0]) for name, entry in entries.items()}


def _fits(target: Tensor, entry: Mapping[str, Any]) -> bool:
    return (
        target.device.type == "cpu"
        and target.is_contiguous()
        and target.numel() > 0
        and list(target.shape) == entry["shape"]
        and _LETTERS.get(target.dtype) == entry["dtype"]
    )


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".tmp-{file.name}")
    try:
        TensorFile.of(tensors).write(temporary)
        flush(temporary)
        temporary.replace(file)
        flush(file.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{file}: cannot be written: {error}; make room, then go on with --resume"
        ) from error


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def n_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

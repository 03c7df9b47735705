"""Named tensors in one safetensors file: written whole, read by name, in place where there is room already."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polysite.errors import CheckpointError

REMEDY = "restore it from a backup, or remove this folder if an earlier round-* folder lies beside it"


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


def read_in_place(file: Path, targets: Mapping[str, Tensor], *, skip: str) -> dict[str, Tensor]:
    """All tensors of a safetensors file by name; those with a target are read into it, without new memory.

    A target takes part if it lies on the CPU, without gaps, and has the stored shape and type; its tensor is then
    the target itself. New memory costs several times the reading, because the system hands it out page by page.

    Parameters
    ----------
    skip : str
        Names that begin so are left out.
    """
    with _readable(file) as content:
        names = [name for name in content.keys() if not name.startswith(skip)]  # noqa: SIM118 (it is no mapping)
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
        and _TYPES.get(target.dtype) == entry["dtype"]
    )


_TYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file atomically; the same tensors give the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".tmp-{file.name}")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        flush(temporary)
        temporary.replace(file)
        flush(file.parent)
    except (OSError, SafetensorError) as error:
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

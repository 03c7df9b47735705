"""Outcomes of slow steps, kept on disk: ``<cache>/steps/<kind>/<digest>.json``.

A step is a function of its arguments. The digest is taken of the arguments themselves (arrays by their values) and of
the step's version, so a step is done again exactly if something that it looks at has changed. Files are small: a
transform as numbers, a mask or a field as packed text. Entries may be deleted at any time.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.errors import DataError
from polysite.image import atomic

Outcome = dict[str, Any]


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping whose values are arrays or fit JSON."""
    whole = hashlib.sha256()
    for name in sorted(content):
        value = content[name]
        if isinstance(value, np.ndarray):
            whole.update(f"{name}:{value.dtype.str}{value.shape}:".encode())
            whole.update(np.ascontiguousarray(value).data)
        else:
            whole.update(f"{name}={json.dumps(value, sort_keys=True)};".encode())
    return whole.hexdigest()


class Steps:
    """Remembers what steps gave.

    Parameters
    ----------
    folder : Path, optional
        Holds a folder for each kind of step; without one nothing is remembered.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def outcome(
        self, kind: str, version: int, arguments: Mapping[str, Any], make: Callable[[], Outcome]
    ) -> Outcome:
        """What a step gave for these arguments; it is done if that is not known, or the file is damaged.

        Parameters
        ----------
        kind : str
            The step.
        version : int
            Raised whenever the same arguments would give something else.
        arguments : mapping
            Everything that the outcome depends on: arrays, or what fits JSON.
        make : callable
            Does the step. Two processes may do the same one at once: both write the same bytes.

        Raises
        ------
        DataError
            If the outcome cannot be written.
        """
        if self.folder is None:
            return make()
        path = self.folder / kind / f"{digest_of({**arguments, 'version': version})}.json"
        known = _read(path)
        if known is None:
            known = make()
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic(path) as temporary:
                    temporary.write_text(
                        json.dumps({"outcome": known, "digest": _seal(known)}), encoding="utf-8"
                    )
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be written: {error.strerror or error}; check the folder and its space"
                ) from error
        return known


def _seal(outcome: Outcome) -> str:
    return hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Outcome | None:
    """An outcome as it was written; None if there is none, or it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        outcome: Outcome = stored["outcome"]
        return outcome if stored["digest"] == _seal(outcome) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def packed(array: NDArray[Any]) -> Outcome:
    """An array as what fits JSON; of truth values, eight in a byte."""
    content = np.packbits(array) if array.dtype == np.bool_ else np.ascontiguousarray(array)
    text = base64.b64encode(zlib.compress(content.tobytes(), 6)).decode()
    return {"type": array.dtype.str, "shape": list(array.shape), "content": text}


def unpacked(stored: Mapping[str, Any]) -> NDArray[Any]:
    """The array that was packed, bit for bit."""
    content = zlib.decompress(base64.b64decode(stored["content"]))
    kind, shape = np.dtype(stored["type"]), tuple(stored["shape"])
    if kind == np.bool_:
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=int(np.prod(shape)))
        return np.ascontiguousarray(bits.reshape(shape)).view(np.bool_)
    return np.frombuffer(content, kind).reshape(shape).copy()

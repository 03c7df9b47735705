"""Labels instead of names: keyed hashes with a secret of the site, or the site's own key.

A plain hash of a PatientID is no pseudonym: there are few enough PatientIDs to try them all. With a secret of
256 bits that stays at the site nobody else can.
"""

import hashlib
import hmac
import os
import secrets
import stat
from base64 import b32encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polysite.data.case import label_of
from polysite.data.dicom.header import Header
from polysite.data.participants import read_table
from polysite.errors import DataError

LENGTH = 12
"""Letters of a label: 60 bits. Among a million persons two share one with a chance of 1 in two million."""
KEY_COLUMNS = ("patient_id", "label")


@dataclass(frozen=True)
class Pseudonyms:
    """How labels are made.

    Attributes
    ----------
    secret : bytes
        The site's.
    key : dict of str to str, or None
        PatientID to label, where the site has its own; a person who is not in it has no label.
    """

    secret: bytes
    key: dict[str, str] | None = None

    def subject(self, header: Header) -> str | None:
        """A person's label; None if the key does not have the person.

        An image without any PatientID is given a person for its study alone.
        """
        identity, issuer = header.person
        if self.key is not None:
            return self.key.get(identity)
        if not identity:
            return self.of("study without a person", header.study)
        return self.of("person", identity, issuer)

    def session(self, header: Header) -> str:
        """A study's label."""
        return self.of("study", header.study)

    def of(self, *words: str) -> str:
        """The label of some words: letters and digits, the same for the same secret."""
        return b32encode(self.digest(*words)).decode().lower()[:LENGTH]

    def digest(self, *words: str) -> bytes:
        """A keyed hash; lengths are part of it, so that no two lists of words give the same bytes."""
        content = b"".join(len(word.encode()).to_bytes(8, "big") + word.encode() for word in words)
        return hmac.new(self.secret, content, hashlib.sha256).digest()


def read_secret(path: Path) -> bytes:
    """The site's secret; made at random, for its owner alone, if there is none.

    Raises
    ------
    DataError
        If others may read it, it is too short, or the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _make(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_bytes().strip()
    except OSError as error:
        raise DataError(
            f"{path}: the secret cannot be read or made: {error.strerror}; check the folder"
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise DataError(f"{path}: the secret can be read by others (mode {mode:o}); run: chmod 600 {path}")
    if len(text) < 32:
        raise DataError(
            f"{path}: the secret has {len(text)} characters; at least 32 are needed, taken at random"
        )
    return text


def _make(path: Path) -> None:
    """Write a new secret whole under another name, then give it its own; the first of several to do so wins."""
    if path.exists():
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # unlike a rename it never replaces one that is there
    finally:
        aside.unlink(missing_ok=True)


def read_key(path: Path) -> dict[str, str]:
    """The site's table of PatientIDs and labels, with the columns ``patient_id`` and ``label``.

    Raises
    ------
    DataError
        If a column is missing, a label stands for two persons, or a person has two. No PatientID is quoted.
    """
    key: dict[str, str] = {}
    for number, row in enumerate(read_table(path, ","), start=2):
        if not set(KEY_COLUMNS) <= row.keys():
            raise DataError(f"{path}: needs the columns {' and '.join(KEY_COLUMNS)}")
        identity, text = (row[column] for column in KEY_COLUMNS)
        if not identity or not text:
            raise DataError(f"{path}: row {number} lacks a patient_id or a label")
        label = label_of(text)
        if key.get(identity, label) != label or (label in key.values() and identity not in key):
            raise DataError(f"{path}: row {number} gives a person a second label, or two persons one")
        key[identity] = label
    if not key:
        raise DataError(f"{path}: has no row")
    return key

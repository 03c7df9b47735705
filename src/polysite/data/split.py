"""Training, validation and test subjects: drawn by subject, so that nobody is in two of them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polysite.config.run import Split
from polysite.data.case import label_of
from polysite.errors import DataError
from polysite.image import atomic

NAMES = ("train", "validation", "test")
Splits = dict[str, dict[str, list[str]]]


def split_subjects(subjects_by_site: Mapping[str, Sequence[str]], settings: Split, seed: int) -> Splits:
    """Site -> split -> sorted subjects.

    The draw of a site depends on the seed, the site's name and its subjects, not on the other sites. Of n
    subjects round(fraction · n) are taken: at least one for a test fraction above 0 if n ≥ 2, at least one
    for a validation fraction above 0 if n ≥ 3, and always one is left for training.

    Raises
    ------
    DataError
        If a site has no subject, or one that the settings name is unknown, in two splits or in none.
    """
    return {
        site: _explicit(site, subjects, settings.subjects[site])
        if site in settings.subjects
        else _drawn(site, subjects, settings, seed)
        for site, subjects in subjects_by_site.items()
    }


def _drawn(site: str, subjects: Sequence[str], settings: Split, seed: int) -> dict[str, list[str]]:
    people = sorted(set(subjects))
    n = len(people)
    if n == 0:
        raise DataError(f"{site}: has no subject to split")
    n_test = min(max(round(settings.test * n), int(settings.test > 0)), n - 1)
    n_validation = max(round(settings.validation * n), int(settings.validation > 0 and n >= 3))
    n_validation = min(n_validation, n - 1 - n_test)
    digest = hashlib.sha256(f"split/{seed}/{site}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:16])).permutation(n)
    shuffled = [people[index] for index in order]
    return {
        "train": sorted(shuffled[n_test + n_validation :]),
        "validation": sorted(shuffled[n_test : n_test + n_validation]),
        "test": sorted(shuffled[:n_test]),
    }


def _explicit(
    site: str, subjects: Sequence[str], wanted: Mapping[Any, Sequence[str]]
) -> dict[str, list[str]]:
    place: dict[str, str] = {}
    for split in NAMES:
        for text in wanted.get(split, ()):
            subject = label_of(text)
            if subject not in subjects:
                known = ", ".join(sorted(set(subjects)))
                raise DataError(f"split.subjects.{site}.{split}: no subject {text!r}; it has {known}")
            if place.get(subject, split) != split:
                raise DataError(
                    f"split.subjects.{site}: subject {text!r} is in {place[subject]!r} and {split!r}; "
                    "keep it in one"
                )
            place[subject] = split
    if "train" not in place.values():
        raise DataError(f"split.subjects.{site}: names no training subject")
    return {split: sorted(name for name, own in place.items() if own == split) for split in NAMES}


def save_splits(path: Path, splits: Splits) -> None:
    """Write splits as JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(splits, indent=1, sort_keys=True), encoding="utf-8")


def load_splits(path: Path) -> Splits:
    """Read splits.

    Raises
    ------
    DataError
        If the file is missing or damaged, or a subject of a site is in two splits.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        splits = {
            str(site): {name: [str(subject) for subject in parts[name]] for name in NAMES}
            for site, parts in raw.items()
        }
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no file of splits; restore it or begin a new run") from error
    for site, parts in splits.items():
        everyone = [subject for name in NAMES for subject in parts[name]]
        twice = sorted({subject for subject in everyone if everyone.count(subject) > 1})
        if twice:
            raise DataError(f"{path}: subject {twice[0]!r} of site {site!r} is in two splits")
    return splits

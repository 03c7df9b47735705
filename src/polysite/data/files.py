"""Cases from files found by a pattern, for layouts that are not BIDS (IXI, BraTS, MIDAS, OASIS-3, ...).

``{subject}`` and ``{session}`` name the case, ``{contrast}`` the contrast (in the words of the layout, by
``contrasts`` of the data section). Any other ``{token}`` and ``*`` match anything within one folder or
file name. A name that occurs twice must match the same text both times.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from polysite.config import FilesData
from polysite.data.bids import entities_of, pick
from polysite.data.case import Case, label_of
from polysite.data.participants import subjects_where
from polysite.errors import DataError


def _expression(pattern: str, words: Sequence[str]) -> re.Pattern[str]:
    """The pattern as a regular expression; ``{contrast}`` matches the given words alone, longest first."""
    choice = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    parts, seen = [], set()
    for part in re.split(r"(\{\w+\}|\*)", pattern):
        if part == "*":
            parts.append("[^/]*")
        elif not part.startswith("{"):
            parts.append(re.escape(part))
        elif (name := part[1:-1]) in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>{choice if name == 'contrast' else '[^/]+?'})")
    return re.compile("".join(parts))


def _found(root: Path, pattern: str, expression: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """Files below the root that match, with their path below the root, sorted."""
    wild = re.sub(r"\{\w+\}", "*", pattern)
    names = sorted(path.relative_to(root).as_posix() for path in root.glob(wild) if path.is_file())
    return [(name, match) for name in names if (match := expression.fullmatch(name))]


def read_cases(site_name: str, data: FilesData, contrasts: Sequence[str]) -> list[Case]:
    """The cases that a pattern finds.

    Two files for one contrast of one case: with BIDS names the plain one is taken, otherwise both are
    given, as two cases of the same key, and the check reports it.

    Raises
    ------
    DataError
        If the folder is missing, the pattern names no subject or contrast, or nothing is found.
    """
    root = data.folder()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct sites.{site_name}.data.path")
    for token in ("{subject}", "{contrast}"):
        if token not in data.pattern:
            raise DataError(f"sites.{site_name}.data.pattern: {data.pattern!r} has no {token}")
    words = {data.contrasts.get(contrast, contrast): contrast for contrast in contrasts}
    kept = subjects_where(root, data.where)
    groups: dict[tuple[str, str | None], dict[str, list[Path]]] = {}
    for name, match in _found(root, data.pattern, _expression(data.pattern, list(words))):
        tokens = match.groupdict()
        subject = label_of(tokens["subject"])
        session = label_of(tokens["session"], "ses") if tokens.get("session") else None
        if kept is None or subject in kept:
            group = groups.setdefault((subject, session), {})
            group.setdefault(words[tokens["contrast"]], []).append(root / name)
    cases = []
    for (subject, session), found in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        notes: list[str] = []
        for contrast, paths in found.items():
            parsed = entities_of(paths[0].name)
            if len(paths) > 1 and parsed:
                chosen, passed = pick(paths, parsed[1])
                if chosen:
                    found[contrast] = [chosen]
                    notes += passed
        for turn in range(max(len(paths) for paths in found.values())):
            images = {name: found[name][turn] for name in contrasts if turn < len(found.get(name, ()))}
            cases.append(Case(site_name, subject, session, images, root, tuple(notes)))
    if not cases:
        raise DataError(
            f"{root}: nothing found for site {site_name!r}; looked for {data.pattern} with contrast "
            f"{' or '.join(words)}{f' among {len(kept)} subjects' if kept is not None else ''}"
        )
    return cases

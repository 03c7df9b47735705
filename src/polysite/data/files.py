"""Cases from files found by a pattern, for layouts that are not BIDS (IXI, BraTS, MIDAS, OASIS-3, ...).

``{subject}`` and ``{session}`` name the case, ``{contrast}`` the contrast (in the words of the layout, by
``contrasts`` of the data section). ``label_images`` is a pattern of the same kind.
Any other ``{token}`` and ``*`` match anything within one folder or
file name. A name that occurs twice must match the same text both times.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from polysite.config.sources import FilesData
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


Group = tuple[str, str | None]
Files = dict[str, Path]


def _words(site_name: str, data: FilesData, contrasts: Sequence[str]) -> dict[str, str]:
    """The layout's word for each contrast that the files may show."""
    every = {data.contrasts.get(contrast, contrast): contrast for contrast in contrasts}
    for key, pattern in (("pattern", data.pattern), ("label_images", data.label_images)):
        if pattern is not None and "{subject}" not in pattern:
            raise DataError(f"sites.{site_name}.data.{key}: {pattern!r} has no {{subject}}")
    if "{contrast}" in data.pattern:
        return every
    words = {word: contrast for contrast, word in data.contrasts.items()} or every
    if len(words) > 1:
        raise DataError(
            f"sites.{site_name}.data.pattern: {data.pattern!r} has no {{contrast}}; add it, or name the one contrast "
            "that the files show in `contrasts`"
        )
    return words


def _grouped(root: Path, pattern: str, words: dict[str, str]) -> Iterator[tuple[Group, list[str], Path]]:
    """Every file that fits a pattern: its subject and session, and its contrast (all, if the pattern has none)."""
    for name, match in _found(root, pattern, _expression(pattern, list(words))):
        tokens = match.groupdict()
        session = label_of(tokens["session"], "ses") if tokens.get("session") else None
        shown = [words[tokens["contrast"]]] if "contrast" in tokens else list(words.values())
        yield (label_of(tokens["subject"]), session), shown, root / name


def _label_images(site_name: str, root: Path, data: FilesData, words: dict[str, str]) -> dict[Group, Files]:
    """The label image of every case and contrast.

    Raises
    ------
    DataError
        If two files are label images of the same image.
    """
    labels: dict[Group, Files] = {}
    for group, shown, path in _grouped(root, data.label_images, words) if data.label_images else ():
        for contrast in shown:
            first = labels.setdefault(group, {}).setdefault(contrast, path)
            if first != path:
                raise DataError(
                    f"sites.{site_name}.data.label_images: {first} and {path} both fit {contrast} of "
                    f"sub-{group[0]}; make the pattern narrower"
                )
    return labels


def read_cases(site_name: str, data: FilesData, contrasts: Sequence[str]) -> list[Case]:
    """The cases that a pattern finds.

    Two files for one contrast of one case: with BIDS names the plain one is taken, otherwise both are
    given, as two cases of the same key, and the check reports it.

    Raises
    ------
    DataError
        If the folder is missing, a pattern names no subject or contrast, or nothing is found.
    """
    root = data.folder()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct sites.{site_name}.data.path")
    words = _words(site_name, data, contrasts)
    kept = subjects_where(root, data.where)
    labels = _label_images(site_name, root, data, words)
    no_image = {path for files in labels.values() for path in files.values()}
    groups: dict[Group, dict[str, list[Path]]] = {}
    for group, (contrast, *_), path in _grouped(root, data.pattern, words):
        if (kept is None or group[0] in kept) and path not in no_image:
            groups.setdefault(group, {}).setdefault(contrast, []).append(path)
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
        own = labels.get((subject, session), {})
        for turn in range(max(len(paths) for paths in found.values())):
            images = {name: found[name][turn] for name in contrasts if turn < len(found.get(name, ()))}
            there = {name: own[name] for name in images if name in own}
            cases.append(Case(site_name, subject, session, images, root, tuple(notes), there))
    if not cases:
        raise DataError(
            f"{root}: nothing found for site {site_name!r}; looked for {data.pattern} with contrast "
            f"{' or '.join(words)}{f' among {len(kept)} subjects' if kept is not None else ''}"
        )
    return cases

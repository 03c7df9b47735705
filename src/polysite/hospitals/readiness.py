"""What would hinder a hospital in a run, found out before it joins: its policy, subjects, kit, device and disks."""

import math
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from polysite.cases import split_cases
from polysite.config.base import expand
from polysite.config.hospital import Hospital
from polysite.config.prepare import Goal, Prepare
from polysite.config.run import Run
from polysite.data.case import Case
from polysite.data.finding import Finding, Level, Seen
from polysite.data.orient import canonical_affine, slices_of
from polysite.data.resample import Grid
from polysite.errors import PolicyError, PolysiteError
from polysite.federation.crew import make_algorithm, make_plans, make_task
from polysite.federation.policy import allow_run, allow_subjects
from polysite.federation.share import SitePlan
from polysite.federation.store import KEEP
from polysite.federation.tensor_files import n_bytes
from polysite.hospitals.opening import require_same_site, run_folder
from polysite.kits.certificates import fingerprint, read_certificate, spoken
from polysite.kits.kit import read_kit
from polysite.run import require_device


def hindrances(
    agreed: Run, own: Run, hospital: Hospital, found: Mapping[str, Sequence[Case]], seen: Sequence[Seen]
) -> list[Finding]:
    """Everything but the scans themselves that would stop the hospital, or that it should look at.

    Parameters
    ----------
    agreed, own : Run
        The run as all hospitals know it, and with this hospital's scans.
    found : mapping
        The hospital's cases.
    seen : sequence of Seen
        Its volumes, as the check of the scans read them.
    """

    def finding(level: Level, message: str) -> Finding:
        return Finding(level, hospital.site, "", "", message.removeprefix(f"{hospital.site}: "))

    findings, plan = [], None
    try:
        plan = _planned(agreed, hospital.site)
        allow_run(hospital.policy, hospital.site, agreed, plan)
    except PolicyError as error:
        findings.append(finding("error", str(error)))
    requirements: tuple[Callable[[], None], ...] = (
        lambda: _require_subjects(own, hospital, found),
        lambda: _require_unchanged(agreed, own, hospital),
        lambda: require_device(hospital.device),
    )
    for require in requirements:
        try:
            require()
        except PolysiteError as error:
            findings.append(finding("error", str(error)))
    findings += [finding(level, text) for level, text in _about_kit(hospital)]
    needs = {hospital.store: room_for_states(plan) if plan else 0, hospital.cases: room_for_cases(own, seen)}
    return findings + [finding(level, text) for level, text in _about_room(needs)]


def _planned(agreed: Run, site: str) -> SitePlan:
    task = make_task(agreed)
    algorithm = make_algorithm(agreed, task)
    if algorithm.pools_data:
        raise PolicyError(f"{site}: takes no part: {agreed.algorithm.name!r} pools the data of all sites")
    return make_plans(agreed, task, algorithm)[site]


def _require_subjects(own: Run, hospital: Hospital, found: Mapping[str, Sequence[Case]]) -> None:
    splits = split_cases(own, {name: list(cases) for name, cases in found.items()})
    allow_subjects(hospital.policy, hospital.site, len(splits[hospital.site]["train"]))


def _require_unchanged(agreed: Run, own: Run, hospital: Hospital) -> None:
    """A run that was begun here goes on with the same SITE.yaml only."""
    if (folder := run_folder(hospital, agreed)).exists():
        require_same_site(folder, own.anchored())


def _about_kit(hospital: Hospital) -> Iterator[tuple[Level, str]]:
    if hospital.kit is None:
        yield "warning", "kit: SITE.yaml names none; `polysite join` needs one"
        return
    told: list[str] = []
    try:
        kit = read_kit(hospital.kit, "hospital", told.append)
        kit.require_site(hospital.site)
    except PolysiteError as error:
        yield "error", f"kit: {error}"
        return
    yield from (("warning", f"kit: {text}") for text in told)
    own, authority = (read_certificate(path) for path in (kit.certificate, kit.authority))
    yield (
        "note",
        f"kit: of {kit.consortium}, until {own.not_valid_after_utc:%Y-%m-%d}, for the server "
        f"{kit.server}:{kit.port}; fingerprint {spoken(fingerprint(own.public_key()))}; its authority's "
        f"{spoken(fingerprint(authority.public_key()))}",
    )


# --- room on the disks --------------------------------------------------------------------------------


def room_for_states(plan: SitePlan) -> int:
    """Bytes of a site's states, about: what it keeps of a round is a model and Adam's two moments of each value.

    There are two rounds' and a third while it is written, then the final model. What a method remembers besides
    comes on top; what rounding lost is counted.
    """
    model = n_bytes((*plan.shared.values(), *plan.private.values()))
    lost = plan.bytes_down if plan.exchange.feeds_back else 0
    return (KEEP + 1) * (3 * model + lost) + model


def room_for_cases(own: Run, seen: Sequence[Seen]) -> int:
    """Bytes of a site's prepared cases, about: float16 values, a mask, and labels of one byte.

    For synthesis all images of a case are brought to the grid of one; for segmentation each keeps its own.
    """
    images = [volume for volume in seen if volume.labels is None]
    labelled = {(volume.case.key, volume.contrast) for volume in seen if volume.labels is not None}
    total = 0
    for _, group in groupby(images, key=lambda volume: volume.case.key):
        volumes = list(group)
        site = own.sites[volumes[0].case.site]
        settings = site.prepare or own.prepare
        if site.labels:
            for volume in volumes:
                has_labels = (volume.case.key, volume.contrast) in labelled
                total += _voxels(volume, settings, "segmentation") * (3 + has_labels)
        else:
            reference = next((v for v in volumes if v.contrast == settings.reference), volumes[0])
            total += _voxels(reference, settings, "synthesis") * (2 * len(volumes) + 1)
    return total


def _voxels(volume: Seen, settings: Prepare, goal: Goal) -> int:
    """Of a volume when it is prepared."""
    decided, grid = settings.decided(goal), volume.grid
    if decided.axes == "slices":
        places = slices_of(grid.affine, grid.shape)
        x, y, z = (grid.shape[axis] for axis in np.argsort(places[:, 0]))
        grid = Grid((x, y, z), canonical_affine(grid.affine, places, grid.shape))
    return math.prod(grid.with_spacing(decided.spacing_mm).shape)


def _about_room(needs: Mapping[Path, int]) -> Iterator[tuple[Level, str]]:
    """Folders that cannot be written into, and disks that are too small for what goes there."""
    disks: dict[int, list[tuple[Path, Path, int]]] = defaultdict(list)
    for folder, n in needs.items():
        folder = expand(folder).absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield "error", f"{folder}: cannot be written to; {there} is not a folder of yours"
            continue
        disks[there.stat().st_dev].append((folder, there, n))
    for parts in disks.values():
        free, wanted = shutil.disk_usage(parts[0][1]).free, sum(n for _, _, n in parts)
        if free < wanted:
            names = " and ".join(str(folder) for folder, _, _ in parts)
            yield (
                "warning",
                f"{names}: about {_size(wanted)} are needed, less what is there already; {_size(free)} are free",
            )


def _size(n: float) -> str:
    """Bytes in words.

    >>> _size(2_300_000)
    '2.3 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"

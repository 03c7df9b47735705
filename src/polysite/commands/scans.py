"""Verbs about scans: phantoms, check, DICOM, public data sets, preparation and its quality."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polysite.commands.common import Overrides, RunFile, show
from polysite.errors import ConfigError, DataError


def phantom(
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="folder to make")] = None,
    kind: Annotated[str, typer.Option(help="brain or cardiac")] = "brain",
    sites: Annotated[int, typer.Option(min=1, help="hospitals")] = 4,
    subjects: Annotated[int, typer.Option(min=1, help="subjects a hospital")] = 6,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    voxel_mm: Annotated[
        float | None, typer.Option(min=0.5, help="in-plane voxel size; default: the hospital's own")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="print the hospitals that there are")] = False,
) -> None:
    """Make a consortium of hospitals with procedural anatomy, real protocols and known truth, as BIDS."""
    from polysite.phantom.kinds import KINDS
    from polysite.progress import console, telling

    if kind not in KINDS:
        raise ConfigError(f"--kind {kind!r}: choose one of: {', '.join(KINDS)}")
    if list_:
        _hospitals(KINDS[kind].sites())
        return
    if out is None:
        raise ConfigError("say where to write: polysite phantom OUT (or --list for the hospitals)")
    with telling(console()) as tell:
        KINDS[kind].write(
            out, n_sites=sites, n_subjects=subjects, seed=seed, voxel_mm=voxel_mm, progress=tell
        )
    typer.echo(f"{out}")


def _hospitals(hospitals: Any) -> None:
    from rich.table import Table

    table = Table("hospital", "scanner", "field", "contrasts", box=None)
    for hospital in hospitals:
        table.add_row(
            hospital.name,
            f"{hospital.manufacturer} {hospital.model}",
            f"{hospital.field_t:g} T",
            " ".join(hospital.contrasts),
        )
    show(table)


def check(
    run_file: RunFile,
    set_: Overrides = None,
    site: Annotated[
        Path | None,
        typer.Option(metavar="SITE.yaml", help="this hospital's scans, and what would stop it from joining"),
    ] = None,
) -> None:
    """Read every case of every site and report all trouble as one table; status 1 if there is an error."""
    from collections import Counter

    from rich.markup import escape
    from rich.table import Table

    from polysite.cases import find_cases, split_cases
    from polysite.data.check import check_run
    from polysite.data.datasets.reader import datasets_of
    from polysite.data.finding import Seen
    from polysite.hospitals.site_file import at_hospital, load_hospital
    from polysite.progress import console, telling
    from polysite.recipe import load

    agreed = load(run_file, set_ or [])
    hospital = None if site is None else load_hospital(site)
    run = at_hospital(agreed, hospital) if hospital else agreed
    seen: list[Seen] = []
    with telling(console()) as tell:
        found = find_cases(run, tell)
        findings = check_run(run, found, tell, seen)
    if hospital:
        from polysite.hospitals.readiness import hindrances

        findings += hindrances(agreed.agreed(), run, hospital, found, seen)
        typer.echo(f"{run.name}: digest {agreed.agreed().digest()}")
    table = Table("", "site", "case", "contrast", "what", box=None)
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(level, *map(escape, (finding.site, finding.case, finding.contrast, finding.message)))
    if findings:
        show(table)
    count = Counter(finding.level for finding in findings)
    n_errors = count["error"]
    n_cases = sum(len(cases) for cases in found.values())
    typer.echo(
        f"{n_cases} cases at {len(found)} sites: {n_errors} errors, {count['warning']} warnings, {count['note']} notes"
    )
    for dataset in datasets_of(run).values():
        typer.echo(f"{dataset.title}: {dataset.licence}. Cite: {dataset.citation}")
    if n_errors:
        raise typer.Exit(1)
    split_cases(run, found)


def dicom(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a folder of DICOM files, or one file")],
    files: Annotated[bool, typer.Option("--files", help="list the files that cannot be read, too")] = False,
) -> None:
    """List the MR series of a folder, on this screen alone, to write the patterns of a run's YAML by."""
    from polysite.data.dicom.listing import bad_files, look, series_rows
    from polysite.progress import console, telling
    from polysite.tables import plain_table

    with telling(console()) as tell:
        found = look(path, tell)
    show(plain_table(*series_rows(found)))
    if files and found.damaged:
        show(plain_table(*bad_files(found)))
    typer.echo(
        f"{len(found.series)} MR series in {len(found.files)} files; {found.n_other} DICOM files of another kind, "
        f"{found.n_not_dicom} files that are not DICOM, {len(found.damaged)} damaged"
    )


def datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a data set; without it, all are listed")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Argument(metavar="ROOT", help="its folder; without it, what is expected there is told"),
    ] = None,
) -> None:
    """List the public data sets that are read by name; with a folder, what it holds and the YAML to train on it."""
    from polysite.config.base import expand
    from polysite.data.datasets.page import example_of, page_of, setting_of
    from polysite.data.datasets.reader import dataset_named
    from polysite.dataset_tables import datasets_table, facts_table, found_table, skipped_table
    from polysite.registry import choices

    if name is None:
        show(datasets_table([dataset_named(known) for known in sorted(choices("datasets"))]))
        typer.echo(
            "\npolysite datasets NAME tells more; polysite datasets NAME ROOT shows what a folder holds"
        )
        return
    dataset = dataset_named(name)
    if root is None:
        typer.echo(page_of(dataset))
        return
    root = expand(root).absolute()
    found = dataset.find(root)
    if found.visits:
        show(found_table(dataset, found))
        show(facts_table(found))
    if found.skipped:
        show(skipped_table(found, root))
    if not found.visits:
        raise DataError(f"{root}: nothing of {dataset.name} found; expected:\n{dataset.layout}")
    typer.echo(f"\nLicence: {dataset.licence}\nCite: {dataset.citation}\n")
    typer.echo(example_of(dataset, root, setting_of(dataset, found)))


def prepare(run_file: RunFile, set_: Overrides = None) -> None:
    """Prepare all cases now (orientation, registration, mask, normalisation); training does it otherwise."""
    from polysite.recipe import load
    from polysite.tables import doubts_table, registration_table

    prepared = _prepared(load(run_file, set_ or []))
    for site, splits in prepared.items():
        typer.echo(f"{site}: " + ", ".join(f"{len(cases)} {split}" for split, cases in splits.items()))
    every = [case for splits in prepared.values() for cases in splits.values() for case in cases]
    for table in (registration_table(every), doubts_table(every)):
        if table:
            show(table)


def qc(
    run_file: RunFile,
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("qc.html"),
    set_: Overrides = None,
) -> None:
    """Write one self-contained page with pictures and figures of every prepared case, cases in doubt first."""
    from polysite.quality import write_quality
    from polysite.recipe import load
    from polysite.tables import doubts_table

    run = load(run_file, set_ or [])
    prepared = _prepared(run)
    if table := doubts_table(
        [case for splits in prepared.values() for cases in splits.values() for case in cases]
    ):
        show(table)
    typer.echo(f"{write_quality(prepared, out, name=run.name)}")


def _prepared(run: Any) -> Any:
    """Site -> split -> prepared cases, with what is done told on the terminal."""
    from polysite.cases import find_cases, prepare_cases, split_cases
    from polysite.progress import console, telling

    with telling(console()) as tell:
        found = find_cases(run, tell)
        return prepare_cases(run, found, split_cases(run, found), tell)

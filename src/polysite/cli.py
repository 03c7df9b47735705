"""The command line. Verbs import what they need when they run, so that ``--help`` is at once there."""

import errno
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from polysite.errors import CheckpointError, ConfigError, DataError, PolysiteError

app = typer.Typer(
    name="polysite",
    help="Personalised federated learning for MRI: every site gets the model that is best for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="the run's configuration")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="a folder made by `polysite train`")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; default: the run's")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="replace a value of the YAML, e.g. training.rounds=3"),
]


RunCommands = Annotated[
    bool,
    typer.Option("--run-commands", help="run the programs that the run folder names (prepare.mask_command)"),
]

STOPPED = 130
"""Exit status after Ctrl-C."""


class _Stopped(Exception):
    """Ctrl-C, with what to do next."""


def main() -> None:
    """Run the command line; what a user can cause ends with one message and a status other than 0."""
    try:
        app()
    except ConfigError as error:
        _fail(str(error), 2)
    except PolysiteError as error:
        _fail(str(error), 1)
    except _Stopped as error:
        _fail(str(error), STOPPED)
    except SystemExit as error:  # typer turns Ctrl-C into it
        if error.code == STOPPED:
            _fail("stopped", STOPPED)
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate", str(error)):
            raise
        _fail(
            f"not enough memory ({str(error).splitlines()[0] if str(error) else 'for the next step'}); lower "
            "training.batch_size, task.image_size or network.width",
            1,
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"{error.filename or 'disk'}: no space left on the device: make room, then run this again", 1
            )
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)


def _fail(message: str, status: int) -> None:
    print(f"polysite: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


@app.command()
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


def _print(table: Any) -> None:
    """Print a table as wide as the terminal; wide enough not to be broken where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, soft_wrap=not sys.stdout.isatty()).print(table)


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
    _print(table)


@app.command()
def check(run_file: RunFile, set_: Overrides = None) -> None:
    """Read every case of every site and report all trouble as one table; status 1 if there is an error."""
    from collections import Counter

    from rich.markup import escape
    from rich.table import Table

    from polysite.cases import find_cases, split_cases
    from polysite.data.check import check_run
    from polysite.data.datasets.reader import datasets_of
    from polysite.progress import console, telling
    from polysite.recipe import load

    run = load(run_file, set_ or [])
    with telling(console()) as tell:
        found = find_cases(run, tell)
        findings = check_run(run, found, tell)
    table = Table("", "site", "case", "contrast", "what", box=None)
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(level, *map(escape, (finding.site, finding.case, finding.contrast, finding.message)))
    if findings:
        _print(table)
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


@app.command()
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
    _print(plain_table(*series_rows(found)))
    if files and found.damaged:
        _print(plain_table(*bad_files(found)))
    typer.echo(
        f"{len(found.series)} MR series in {len(found.files)} files; {found.n_other} DICOM files of another kind, "
        f"{found.n_not_dicom} files that are not DICOM, {len(found.damaged)} damaged"
    )


@app.command()
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
        _print(datasets_table([dataset_named(known) for known in sorted(choices("datasets"))]))
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
        _print(found_table(dataset, found))
        _print(facts_table(found))
    if found.skipped:
        _print(skipped_table(found, root))
    if not found.visits:
        raise DataError(f"{root}: nothing of {dataset.name} found; expected:\n{dataset.layout}")
    typer.echo(f"\nLicence: {dataset.licence}\nCite: {dataset.citation}\n")
    typer.echo(example_of(dataset, root, setting_of(dataset, found)))


@app.command()
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
            _print(table)


@app.command()
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
        _print(table)
    typer.echo(f"{write_quality(prepared, out, name=run.name)}")


def _prepared(run: Any) -> Any:
    """Site -> split -> prepared cases, with what is done told on the terminal."""
    from polysite.cases import find_cases, prepare_cases, split_cases
    from polysite.progress import console, telling

    with telling(console()) as tell:
        found = find_cases(run, tell)
        return prepare_cases(run, found, split_cases(run, found), tell)


@app.command()
def plan(
    run_file: RunFile,
    json_: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    set_: Overrides = None,
) -> None:
    """Say what would leave each site, before anything runs; needs no data."""
    import json

    from polysite.federation.share import explain
    from polysite.recipe import load
    from polysite.run import plan as make_plan

    description = make_plan(load(run_file, set_ or []))
    typer.echo(json.dumps(description, indent=1) if json_ else explain(description), nl=json_)


@app.command()
def schema() -> None:
    """Print the JSON schema of a run's YAML, for editors."""
    import json

    from polysite.config.run import Run

    typer.echo(json.dumps(Run.model_json_schema(), indent=1))


@app.command()
def train(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.yaml", help="not needed with --resume")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to make")] = None,
    set_: Overrides = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    resume: Annotated[Path | None, typer.Option(help="run folder to continue")] = None,
    run_commands: RunCommands = False,
) -> None:
    """Train a federation; a stopped run continues with --resume as if it had not stopped."""
    from polysite import recipe
    from polysite.progress import console, telling
    from polysite.run import create, require_here

    overrides = list(set_ or [])
    overrides += [f"device={device}"] if device else []
    overrides += [f"seed={seed}"] if seed is not None else []
    run = recipe.load(run_file, overrides) if run_file else None
    terminal = console()
    if resume is not None:
        if out is not None and out != resume:
            raise ConfigError(f"--out {out}: --resume {resume} names the folder already; leave one out")
        folder = resume
        _same_run(folder, run, overrides)
        _require_consent(folder, run_commands)
    else:
        if run is None:
            raise ConfigError("say what to train: polysite train RUN.yaml --out FOLDER, or --resume FOLDER")
        require_here(run)
        folder = out or Path("runs") / run.name
        with telling(terminal) as tell:
            create(run, folder, tell)
        plan_text = (folder / "share_plan.txt").read_text(encoding="utf-8").split("\nLeaves the site")[0]
        terminal.print(plan_text, soft_wrap=True, markup=False)
    _train(folder, terminal, f"polysite train --resume {folder}")
    typer.echo(f"{folder}")


def _same_run(folder: Path, run: Any, overrides: list[str]) -> None:
    """Refuse to go on with another configuration than the folder's."""
    from polysite.run import differences, open_run

    old = open_run(folder)
    if run is None and overrides:
        raise ConfigError(
            "--set, --device and --seed belong to a new run; --resume takes the folder's own configuration"
        )
    different = differences(old, run) if run is not None else []
    if different:
        lines = "\n".join(f"  {line}" for line in different)
        raise ConfigError(
            f"{folder}: was begun with another configuration:\n{lines}\n"
            f"start anew with another --out; device, engine and evaluate may be changed in {folder / 'config.yaml'}"
        )


def _require_consent(folder: Path, run_commands: bool) -> None:
    """A run folder may come from anywhere, so its programs are not started because it says so."""
    from polysite.run import open_run

    run = open_run(folder)
    named = [
        prepare.mask_command
        for prepare in (run.prepare, *(site.prepare for site in run.sites.values()))
        if prepare
    ]
    if not run_commands and any(named):
        texts = "; ".join(" ".join(command) for command in dict.fromkeys(named) if command)
        raise ConfigError(
            f"{folder / 'config.yaml'}: names a program to be run on this machine: {texts}. If you know it and want "
            "that, add --run-commands"
        )


def _train(folder: Path, terminal: Any, again: str) -> None:
    """Train a run folder to its end, shown on the terminal; ``again`` is the command that goes on after a stop."""
    from polysite.progress import shown
    from polysite.run import done_rounds, open_run
    from polysite.run import train as run_training
    from polysite.tensorboard import board

    run = open_run(folder)
    first = done_rounds(run, folder)
    try:
        with shown(run, first, terminal) as (listen, tell), board(folder, first) as listeners:
            run_training(folder, [listen, *listeners], tell)
    except KeyboardInterrupt:
        raise _Stopped(f"stopped; go on with: {again}") from None


@app.command()
def evaluate(folder: RunFolder, device: Device = None, run_commands: RunCommands = False) -> None:
    """Predict and score every test case: predictions/ and scores.csv."""
    from polysite.evaluate.summary import overview
    from polysite.predictions import evaluate as run_evaluation
    from polysite.progress import console, telling
    from polysite.tables import summary_table

    _require_consent(folder, run_commands)
    with telling(console()) as tell:
        scores = run_evaluation(folder, tell, device=device)
    _print(summary_table(overview(scores)))
    typer.echo(f"{folder / 'scores.csv'}")


@app.command()
def predict(
    folder: RunFolder,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="a volume, a DICOM series (folder or file) or a BIDS folder")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="a .nii.gz file, or a folder for a BIDS folder")],
    site: Annotated[str, typer.Option(help="whose model")],
    task: Annotated[
        str | None, typer.Option(help="SOURCE->TARGET, or an image's name; default: by the file's name")
    ] = None,
    device: Device = None,
    dicom_: Annotated[
        Path | None,
        typer.Option(
            "--dicom", metavar="PATH", help="folder to make for the result as DICOM of the input's patient"
        ),
    ] = None,
    run_commands: RunCommands = False,
) -> None:
    """Apply a model to whole volumes: the result lies on the input's own grid."""
    from polysite.predictions import predict as run_prediction

    _require_consent(folder, run_commands)
    for path in run_prediction(folder, site, source, out, task, device=device, dicom=dicom_):
        typer.echo(f"{path}")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN_FOLDER…")],
    out: Annotated[Path | None, typer.Option(help="default: report.html in the first folder")] = None,
) -> None:
    """Write one self-contained page about one or several runs."""
    from polysite.report.page import build_report

    typer.echo(f"{build_report(folders, out or folders[0] / 'report.html')}")


@app.command()
def compare(
    study_file: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="methods × seeds over one run's YAML")
    ],
    out: Annotated[Path, typer.Option(help="folder of the runs and of report.html")],
) -> None:
    """Train, evaluate and compare several methods; goes on where it was stopped."""
    from polysite.evaluate.summary import summary_rows
    from polysite.progress import console, telling
    from polysite.report.page import build_report
    from polysite.study import compare as run_study
    from polysite.tables import summary_table

    terminal = console()
    again = f"polysite compare {study_file} --out {out}"
    folders, scores, references = run_study(
        study_file, out, lambda folder: _train(folder, terminal, again), lambda: telling(terminal)
    )
    _print(summary_table(summary_rows(scores, references=references)))
    typer.echo(f"{build_report(folders, out / 'report.html')}")


@app.command()
def provision(
    consortium_file: Annotated[
        Path, typer.Argument(metavar="CONSORTIUM.yaml", help="the server's address and the hospitals")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder of the kits; keep authority/ secret")],
) -> None:
    """Make start-up kits for the server and each hospital; a hospital added later gets one, the others keep theirs."""
    from polysite.engines.nvflare.provisioning import provision as make_kits
    from polysite.hospitals.site_file import load_consortium

    for folder in make_kits(load_consortium(consortium_file), out):
        typer.echo(f"{folder}")


@app.command()
def serve(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.yaml", help="not needed with --resume")
    ] = None,
    kit: Annotated[Path, typer.Option(help="the server's start-up kit")] = Path("server"),
    out: Annotated[Path | None, typer.Option(help="run folder to make")] = None,
    resume: Annotated[Path | None, typer.Option(help="run folder to continue")] = None,
    set_: Overrides = None,
    wait: Annotated[int, typer.Option(min=1, help="seconds to wait until every hospital is there")] = 86_400,
    patience: Annotated[int, typer.Option(min=1, help="seconds to wait for a hospital's answer")] = 86_400,
) -> None:
    """Train a federation across hospitals, each of which has joined with `polysite join`."""
    from polysite import recipe
    from polysite.engines.nvflare.carrier import NVFlare
    from polysite.engines.nvflare.kit import read_kit
    from polysite.hospitals.serving import create_served
    from polysite.hospitals.serving import serve as run_server
    from polysite.progress import console, shown
    from polysite.run import done_rounds, open_run

    server, terminal = read_kit(kit, "server"), console()
    if (run_file is None) == (resume is None):
        raise ConfigError("say what to train: polysite serve RUN.yaml --out FOLDER, or --resume FOLDER")
    if resume is not None:
        folder = resume
        if set_ or out not in (None, resume):
            raise ConfigError(
                "--set and --out belong to a new run; --resume takes the folder's own configuration"
            )
    else:
        assert run_file is not None
        run = recipe.load(run_file, set_ or [])
        folder = out or Path("runs") / run.name
        create_served(run, folder)
        terminal.print(
            (folder / "share_plan.txt").read_text("utf-8").split("\nLeaves the site")[0], markup=False
        )
    run = open_run(folder)
    terminal.print(f"{run.name}: digest {run.agreed().digest()}", soft_wrap=True, markup=False)
    with (
        _stoppable(f"polysite serve --resume {folder} --kit {kit}"),
        shown(run, done_rounds(run, folder), terminal) as (listen, tell),
    ):

        def carry(sites: Sequence[str]) -> NVFlare:
            return NVFlare(server, folder / "nvflare", sites, wait_s=wait, patience_s=patience, tell=tell)

        run_server(folder, carry, [listen], tell)
    typer.echo(f"{folder}")


@app.command()
def join(
    site_file: Annotated[
        Path, typer.Argument(metavar="SITE.yaml", help="this hospital: scans, store, kit, policy")
    ],
    once: Annotated[bool, typer.Option("--once", help="leave when one run has ended")] = False,
) -> None:
    """Take part in runs across hospitals: wait for the server, train here, send what the policy allows."""
    from polysite.hospitals.joining import join as take_part
    from polysite.hospitals.site_file import load_hospital
    from polysite.progress import console

    hospital, terminal = load_hospital(site_file), console()
    with _stoppable(f"polysite join {site_file}"):
        take_part(hospital, once=once, tell=lambda text: terminal.print(text, soft_wrap=True, markup=False))


@app.command()
def audit(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="audit.jsonl of a hospital's store or a server's run")
    ],
    against: Annotated[
        Path | None, typer.Option(help="the other end's log: is all that it tells of here in this one?")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="with --against: what the other log calls this end")
    ] = None,
) -> None:
    """Verify an audit log, line by line, and say what went and came."""
    from polysite.federation.audit import missing_from, verify
    from polysite.tables import audit_table

    records = verify(log)
    if against is not None:
        if site is None:
            raise ConfigError(
                "--against: say with --site what the other log calls this end (a site's name, or server)"
            )
        if findings := missing_from(records, verify(against), site):
            raise CheckpointError("\n".join(f"{log}: {finding}" for finding in findings))
    _print(audit_table(records))
    typer.echo(f"{log}: {len(records)} lines, none changed, removed or moved")


@contextmanager
def _stoppable(again: str) -> Iterator[None]:
    """Ctrl-C, or a polite request to end, ends with a word about how to go on, and whatever was started ends too."""
    import signal

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise _Stopped(f"stopped; go on with: {again}") from None
    finally:
        signal.signal(signal.SIGTERM, before)

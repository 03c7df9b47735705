"""A run opened at a hospital: its folder, its cases, and a crew of one."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from polysite.cases import find_cases, split_cases
from polysite.config.hospital import Hospital
from polysite.config.run import Run
from polysite.errors import CheckpointError
from polysite.events import EventLog
from polysite.federation.crew import Crew, assemble
from polysite.federation.policy import allow_subjects
from polysite.federation.remote import Open
from polysite.federation.saver import saving
from polysite.federation.share import describe
from polysite.hospitals.site_file import at_hospital
from polysite.lock import locked
from polysite.run import create, differences, open_run, prepared_cases, require_device
from polysite.seal import require_same_plan, run_splits
from polysite.threads import cores


def run_folder(hospital: Hospital, run: Run) -> Path:
    """Where a hospital keeps its part of a run; for `polysite predict` and `evaluate` a run folder like any other."""
    return hospital.store / f"{run.name}-{run.agreed().digest()[:12]}"


def opener(hospital: Hospital, tell: Callable[[str], None] = lambda text: None) -> Open:
    """Opens runs at a hospital; see `polysite.federation.remote.Outpost`."""

    @contextmanager
    def open_at(agreed: Run) -> Iterator[Crew]:
        import torch

        run, folder = at_hospital(agreed, hospital).anchored(), run_folder(hospital, agreed)
        require_device(run.device)
        torch.set_num_threads(hospital.threads or cores())
        if not folder.exists():
            splits = split_cases(run, find_cases(run, tell))
            allow_subjects(hospital.policy, hospital.site, len(splits[hospital.site]["train"]))
            create(run, folder, tell)
        with locked(folder), saving() as saver:
            require_same_site(folder, run)
            subjects = run_splits(folder)[hospital.site]["train"]
            allow_subjects(hospital.policy, hospital.site, len(subjects))
            crew = assemble(run, prepared_cases(run, folder, tell), folder, saver)
            require_same_plan(folder, describe(crew.plans))
            crew.sites[hospital.site].store.clean()
            yield crew

    return open_at


def require_same_site(folder: Path, run: Run) -> None:
    """Refuse to go on where the hospital's own part of the run has changed."""
    old = open_run(folder)
    if old.digest() != run.digest():
        lines = "\n".join(f"  {line}" for line in differences(old, run))
        raise CheckpointError(
            f"{folder}: was begun with another SITE.yaml:\n{lines}\nput it back, or move this folder away to "
            "begin anew"
        )


def note(crew: Crew, event: dict[str, Any]) -> None:
    """Add to the events of a hospital's run folder."""
    with closing(EventLog(crew.folder / "events.jsonl")) as log:
        log(event)

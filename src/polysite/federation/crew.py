"""From a run's configuration and its prepared data to the sites and the server that take part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polysite.algorithms.algorithm import Algorithm
from polysite.config.base import settings_of
from polysite.config.run import Run
from polysite.errors import ConfigError, DataError
from polysite.federation.saver import Saver
from polysite.federation.share import SitePlan, site_plan
from polysite.federation.site import Site, Slot
from polysite.federation.store import Store
from polysite.registry import lookup
from polysite.seeds import derive
from polysite.tasks.task import Task, TrainingData

Cases = Mapping[str, Mapping[str, Sequence[Any]]]
"""Site -> split ("train", "validation", "test") -> prepared cases."""

POOLED = "pooled"
"""The only participant of a run whose algorithm pools the data."""


def make_task(run: Run) -> Task:
    """The run's task, on its device."""
    task: Task = lookup("tasks", run.task.name)(
        settings_of("tasks", run.task),
        network=run.network,
        training=run.training,
        contrasts=run.contrasts,
        sites=run.sites,
        device=run.device,
    )
    return task


def make_algorithm(run: Run, task: Task) -> Algorithm:
    """The run's algorithm; what the task cannot share is private in addition to what the settings say.

    Raises
    ------
    ConfigError
        If it compares features and the task has none.
    """
    settings = settings_of("algorithms", run.algorithm)
    private = (*settings.private, *task.private())
    kind: type[Algorithm] = lookup("algorithms", run.algorithm.name)
    if kind.compares_features and not task.gives_features:
        raise ConfigError(
            f"algorithm.name: {run.algorithm.name} compares features, and the networks for {run.task.name} give "
            "none; use it for segmentation, or choose another method"
        )
    return kind(settings.model_copy(update={"private": private}))


def participants(run: Run, algorithm: Algorithm) -> list[str]:
    """Names of those who train, in their fixed order."""
    return [POOLED] if algorithm.pools_data else list(run.sites)


def make_plans(run: Run, task: Task, algorithm: Algorithm) -> dict[str, SitePlan]:
    """The share plan of every participant, from models without memory.

    Raises
    ------
    ConfigError
        If a pattern of the user's own in ``algorithm.private`` fits no name: what it was meant for would leave.
    """
    with torch.device("meta"):
        plans = {
            name: site_plan(
                task,
                algorithm,
                task.build(None if name == POOLED else name, None, device="meta"),
                run.exchange,
            )
            for name in participants(run, algorithm)
        }
    _require_fitting(algorithm, plans)
    return plans


def _require_fitting(algorithm: Algorithm, plans: Mapping[str, SitePlan]) -> None:
    """Refuse a private pattern that nothing fits, unless every run has it."""
    names = {name for plan in plans.values() for name in (*plan.shared, *plan.private)}
    usual = Algorithm.Settings.model_fields["private"].default
    for pattern in algorithm.settings.private:
        if pattern not in usual and not any(fnmatchcase(name, pattern) for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ConfigError(
                f"algorithm.private: no tensor is called {pattern!r}, so nothing would stay because of it; names begin "
                f"with {', '.join(parts)}"
            )


@dataclass
class Crew:
    """A run as this process sees it: every participant's plan, and those participants whose data are here."""

    run: Run
    folder: Path
    task: Task
    algorithm: Algorithm
    plans: Mapping[str, SitePlan]
    sites: dict[str, Site]
    saver: Saver
    slot: Callable[[str], Slot]
    """The model object of a participant's architecture."""

    def initial(self) -> dict[str, Tensor]:
        """The server's first state: the common initial values of everything that any site shares."""
        state: dict[str, Tensor] = {}
        for name, plan in self.plans.items():
            initial = self.slot(name).initial
            state |= {key: initial[key] for key in plan.shared}
        return state

    def server_store(self) -> Store:
        """The server's versions."""
        return Store(self.folder / "server" / "store", self.run.digest())


def assemble(run: Run, cases: Cases, folder: Path, saver: Saver) -> Crew:
    """Build the participants of a run whose data are here, with the plans of all.

    Parameters
    ----------
    cases : mapping
        Site -> split -> prepared cases; a site without an entry works elsewhere.
    folder : Path
        The run folder; states are kept below it.
    """
    task = make_task(run)
    algorithm = make_algorithm(run, task)
    plans = make_plans(run, task, algorithm)
    seed = derive(run.seed, "initial")
    slots: dict[tuple[str, ...], Slot] = {}

    def slot(name: str) -> Slot:
        architecture = (*plans[name].shared, "", *plans[name].private)
        if architecture not in slots:
            model = task.build(None if name == POOLED else name, seed)
            networks = task.networks(model)
            initial = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            slots[architecture] = Slot(model, networks, task.optimisers(model), initial)
        return slots[architecture]

    def own_start(name: str) -> Mapping[str, Tensor]:
        model = task.build(None if name == POOLED else name, derive(seed, name))
        return {key: value.detach().cpu() for key, value in model.state_dict().items()}

    def data(members: Sequence[str], split: str) -> list[TrainingData]:
        return [task.data(member, cases[member].get(split, [])) for member in members]

    def together(name: str, members: list[TrainingData]) -> TrainingData:
        return task.pool(members) if name == POOLED else members[0]

    sites = {}
    for name in plans:
        members = list(run.sites) if name == POOLED else [name]
        if any(member not in cases for member in members):
            continue
        training, validation = data(members, "train"), data(members, "validation")
        for member, samples in zip(members, training, strict=True):
            if not samples.n_samples:
                raise DataError(
                    f"{member}: no training case has a sample for any of its tasks; "
                    "see what is missing with `polysite check`"
                )
        sites[name] = Site(
            name=name,
            task=task,
            algorithm=algorithm,
            training=run.training,
            seed=run.seed,
            plan=plans[name],
            data=together(name, training),
            validation=together(name, validation) if all(part.n_samples for part in validation) else None,
            store=Store(folder / "sites" / name / "store", run.digest()),
            saver=saver,
            slot=partial(slot, name),
            own_start=None if run.training.common_start else partial(own_start, name),
        )
    return Crew(run, folder, task, algorithm, plans, sites, saver, slot)

"""What left the sites and what stayed, from a run's share plan and events."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polysite.report.run_folder import RunFolder


@dataclass(frozen=True)
class SiteTraffic:
    """Bytes of one site: planned for a round each way, and counted over the run (None: not known)."""

    site: str
    up_per_round: int | None
    down_per_round: int | None
    up_total: int
    down_total: int
    n_rounds: int


@dataclass(frozen=True)
class Network:
    """One network of the plan: how much of it travels."""

    name: str
    parameters: int | None
    shared_tensors: int | None
    shared_values: int | None
    private_values: int | None


@dataclass(frozen=True)
class Travel:
    """Everything about one run's exchange; groups are (name, number of tensors)."""

    method: str
    pools_scans: bool
    networks: list[Network]
    sites: list[SiteTraffic]
    shared_values: int | None
    bytes_per_round: int | None
    bytes_up: int | None
    """What goes up of ``bytes_per_round``, where it is sent as smaller values."""
    shared: list[tuple[str, int]]
    private: list[tuple[str, int]]


def travel(run: RunFolder) -> Travel:
    """What a run exchanged; values that a file does not have are None."""
    plan = run.share_plan
    networks = _mapping(plan, "networks")
    shared, private = _mapping(plan, "shared"), _mapping(plan, "private")
    return Travel(
        method=run.method,
        pools_scans=run.algorithm == "central",
        networks=[
            Network(
                name=str(name),
                parameters=_count(network, "parameters"),
                shared_tensors=_count(_mapping(network, "shared"), "tensors"),
                shared_values=_count(_mapping(network, "shared"), "values"),
                private_values=_count(_mapping(network, "private"), "values"),
            )
            for name, network in networks.items()
            if isinstance(network, Mapping)
        ],
        sites=[
            SiteTraffic(
                site=site,
                up_per_round=_count(_mapping(_mapping(plan, "sites"), site), "bytes_up"),
                down_per_round=_count(_mapping(_mapping(plan, "sites"), site), "bytes_down"),
                up_total=run.events.total(site, "bytes_out"),
                down_total=run.events.total(site, "bytes_in"),
                n_rounds=sum(at == site for at, _ in run.events.at_sites),
            )
            for site in run.sites
        ],
        shared_values=_count(shared, "values"),
        bytes_per_round=_count(shared, "bytes_per_round"),
        bytes_up=_count(shared, "bytes_up") or _count(shared, "bytes_per_round"),
        shared=group_names(shared.get("names"), list(networks)),
        private=group_names(private.get("names"), list(networks)),
    )


def group_names(names: object, networks: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Tensor names joined by the module that they belong to, with their number.

    >>> group_names(["res6.conv1.weight", "res6.conv1.bias", "out.weight"])
    [('res6', 2), ('out', 1)]
    """
    if not isinstance(names, list):
        return []
    counts: Counter[str] = Counter()
    for name in map(str, names):
        # a discriminator's own name holds no dot beyond the one of its task: "discriminator.T1w-T2w"
        network = next((prefix for prefix in networks if name.startswith(f"{prefix}.")), None)
        rest = name.removeprefix(f"{network}.") if network else name
        module = rest.partition(".")[0]
        counts[f"{network}.{module}" if network else module] += 1
    return list(counts.items())


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _count(parent: Mapping[str, Any], key: str) -> int | None:
    value = parent.get(key)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

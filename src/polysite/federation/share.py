"""The share plan: what leaves each site and what stays, before anything runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm
from polysite.config.exchange import Exchange
from polysite.errors import PolysiteError
from polysite.federation.stages.exchange import planned
from polysite.federation.tensor_files import n_bytes
from polysite.tasks.task import Task


@dataclass(frozen=True)
class SitePlan:
    """What one site shares: names of shared and private tensors partition the model's state."""

    shared: dict[str, Tensor]
    private: dict[str, Tensor]
    networks: dict[str, nn.Module]
    exchange: Exchange
    sent: dict[str, Tensor]
    """What travels to the server for the shared tensors; the other way they travel as they are."""

    @property
    def bytes_up(self) -> int:
        """Bytes of the tensors that a site sends in a round."""
        return n_bytes(self.sent.values())

    @property
    def bytes_down(self) -> int:
        """Bytes of the tensors that come to a site in a round."""
        return n_bytes(self.shared.values())

    @property
    def values(self) -> int:
        """Numbers in the shared tensors."""
        return sum(tensor.numel() for tensor in self.shared.values())


def site_plan(task: Task, algorithm: Algorithm, model: nn.Module, exchange: Exchange) -> SitePlan:
    """The plan of one site's model.

    Raises
    ------
    PolysiteError
        If the algorithm shares a name that the model does not have.
    """
    state = model.state_dict()
    names = set() if algorithm.pools_data else algorithm.shared(model)
    unknown = names - set(state)
    if unknown:
        raise PolysiteError(f"the algorithm shares {sorted(unknown)[0]!r}, which is no tensor of the model")
    shared = {name: tensor for name, tensor in state.items() if name in names}
    return SitePlan(
        shared=shared,
        private={name: tensor for name, tensor in state.items() if name not in names},
        networks=dict(task.networks(model)),
        exchange=exchange,
        sent=planned(exchange, shared),
    )


def fingerprint(shared: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a site shares: names, shapes and types; both ends of a wire must have the same."""
    content = {name: [str(tensor.dtype), *tensor.shape] for name, tensor in shared.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def describe(plans: Mapping[str, SitePlan]) -> dict[str, Any]:
    """The plans of all sites as JSON: networks, what is shared, what is private, and each site's bytes."""
    networks: dict[str, Any] = {}
    for plan in plans.values():
        for name, network in plan.networks.items():
            if name not in networks:
                networks[name] = {
                    "parameters": sum(parameter.numel() for parameter in network.parameters()),
                    "shared": _part(plan.shared, name),
                    "private": _part(plan.private, name),
                }
    shared = {name: tensor for plan in plans.values() for name, tensor in plan.shared.items()}
    sent = {name: tensor for plan in plans.values() for name, tensor in plan.sent.items()}
    private = {name for plan in plans.values() for name in plan.private}
    (exchange,) = {plan.exchange for plan in plans.values()}
    return {
        "networks": networks,
        "shared": {
            "values": sum(tensor.numel() for tensor in shared.values()),
            "bytes_per_round": n_bytes(shared.values()),
            "bytes_up": n_bytes(sent.values()),
            "names": sorted(shared),
        },
        "private": {"names": sorted(private)},
        "exchange": exchange.model_dump(mode="json"),
        "sites": {
            site: {
                "networks": list(plan.networks),
                "values": plan.values,
                "bytes_up": plan.bytes_up,
                "bytes_down": plan.bytes_down,
            }
            for site, plan in plans.items()
        },
    }


def explain(description: Mapping[str, Any]) -> str:
    """The description as plain text, for a terminal and for ``share_plan.txt``."""
    lines = ["What leaves each site in a round, and what stays", ""]
    width = max(len(name) for name in description["networks"])
    lines.append(f"{'network':<{width}}  {'parameters':>12}  {'values shared':>14}  {'values private':>14}")
    for name, network in description["networks"].items():
        lines.append(
            f"{name:<{width}}  {network['parameters']:>12,}  {network['shared']['values']:>14,}"
            f"  {network['private']['values']:>14,}"
        )
    lines.append("")
    for site, part in description["sites"].items():
        lines.append(
            f"{site}: {part['values']:,} values; {part['bytes_up']:,} bytes up and "
            f"{part['bytes_down']:,} bytes down a round"
        )
    if words := Exchange(**description["exchange"]).words():
        lines += ["", *words]
    for title, names in (
        ("Leaves the site", description["shared"]["names"]),
        ("Stays at the site", description["private"]["names"]),
    ):
        lines += ["", f"{title} ({len(names)} tensors)", *(f"  {name}" for name in names or ["nothing"])]
    return "\n".join(lines) + "\n"


def _part(tensors: Mapping[str, Tensor], network: str) -> dict[str, int]:
    mine = {name: tensor for name, tensor in tensors.items() if name.startswith(network + ".")}
    return {
        "tensors": len(mine),
        "values": sum(tensor.numel() for tensor in mine.values()),
        "bytes": n_bytes(mine.values()),
    }

"""Whether a site's message may be used: the plan's names, shapes and types, and numbers that are numbers."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.errors import Refusal, WireError
from polysite.federation.share import SitePlan
from polysite.federation.stages.exchange import trouble
from polysite.federation.stages.values import tensor_of


def require_sound(message: Message, plan: SitePlan, round_: int) -> None:
    """Refuse a message that does not keep to its share plan, or comes from a training that diverged.

    Raises
    ------
    Refusal
        Names the site and the tensor or loss.
    """
    require_planned(message.tensors, plan.sent, message.site)
    require_finite(message, round_)
    if found := trouble(plan.exchange, message.tensors, plan.shared):
        raise Refusal(f"{message.site}: sent {found} (round {round_})")
    for name, loss in message.facts.get("losses", {}).items():
        if not math.isfinite(loss):  # also where nothing travels
            raise _diverged(message.site, f"the loss {name}", round_)


def require_planned(tensors: Mapping[str, Tensor], planned: Mapping[str, Tensor], site: str) -> None:
    """Refuse tensors that are not in a plan, or of another shape or type.

    Raises
    ------
    Refusal
        Names the site and the tensor.
    """
    for name, tensor in tensors.items():
        if name not in planned:
            raise Refusal(f"{site}: sent {name!r}, which is not in its share plan")
        due = planned[name]
        if tensor.shape != due.shape or tensor.dtype != due.dtype:
            raise Refusal(
                f"{site}: sent {name!r} as {tuple(tensor.shape)} {tensor.dtype}, not {tuple(due.shape)} {due.dtype}"
            )


def require_finite(message: Message, round_: int) -> None:
    """Refuse a message with a value that is not finite.

    Raises
    ------
    Refusal
        Names the site and the tensor.
    """
    for name, tensor in message.tensors.items():
        if not finite(tensor):
            raise _diverged(message.site, tensor_of(name), round_)


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite; in one pass, because a sum that is finite has no other terms."""
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _diverged(site: str, what: str, round_: int) -> Refusal:
    return Refusal(
        f"{site}: {what!r} is not finite after round {round_}: training diverged there; "
        "lower training.learning_rate or look at the site's images with `polysite check`"
    )


COUNTS = ("n_samples", "bytes_in", "bytes_out")
SECONDS = ("seconds", "carried_seconds")


def sendable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a round as they may leave: numbers alone, by the names that are known; what is no number is null."""
    kept = {name: facts[name] for name in (*COUNTS, *SECONDS) if name in facts}
    losses = {
        name: facts[name] and {key: _number(value) for key, value in facts[name].items()}
        for name in ("losses", "validation")
    }
    return {**losses, **kept}


def received(facts: Mapping[str, Any], site: str) -> dict[str, Any]:
    """Facts that arrived, checked.

    Raises
    ------
    WireError
        If there is anything but numbers, or a name that is not known.
    """
    found = dict(facts)
    for name in ("losses", "validation"):
        found[name] = _losses(facts.get(name), f"{site}: the fact {name!r}")
    for name in COUNTS:
        if type(facts.get(name)) is not int or facts[name] < (name == "n_samples"):
            raise WireError(f"{site}: the fact {name!r} is {facts.get(name)!r:.40}, no count")
    for name in SECONDS:
        if name != "seconds" and name not in facts:
            continue
        if type(facts.get(name)) not in (int, float) or not 0 <= facts[name] < math.inf:
            raise WireError(f"{site}: the fact {name!r} is {facts.get(name)!r:.40}, no time in seconds")
    if unknown := found.keys() - {"losses", "validation", *COUNTS, *SECONDS}:
        raise WireError(f"{site}: sent the fact {min(unknown)!r:.80}, which is not known")
    if found["losses"] is None:
        raise WireError(f"{site}: sent no losses")
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _losses(given: Any, what: str) -> dict[str, float] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or any(
        value is not None and (type(value) not in (int, float) or not math.isfinite(value))
        for value in given.values()
    ):
        raise WireError(f"{what} is no mapping of names to numbers")
    return {name: math.nan if value is None else value for name, value in given.items()}

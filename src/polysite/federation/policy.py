"""A hospital's right to say no: its policy against what a run asks for."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from polysite.config.exchange import Exchange
from polysite.config.hospital import ExchangePolicy, Policy
from polysite.config.run import Run
from polysite.errors import PolicyError
from polysite.federation.share import SitePlan
from polysite.federation.stages.values import tensor_of


def allow_run(policy: Policy, site: str, run: Run, plan: SitePlan) -> None:
    """Refuse a run that the policy does not allow; needs no data.

    Parameters
    ----------
    run : Run
        As agreed on by all hospitals.

    Raises
    ------
    PolicyError
        With the reason.
    """
    if run.name not in policy.runs and run.digest() not in policy.runs:
        raise _no(site, f"the run {run.name!r} ({run.digest()}) is not among policy.runs")
    if run.training.rounds > policy.max_rounds:
        raise _no(site, f"it has {run.training.rounds} rounds; policy.max_rounds is {policy.max_rounds}")
    if plan.bytes_up > policy.max_bytes_per_round:
        raise _no(
            site,
            f"{plan.bytes_up} bytes would leave in a round; policy.max_bytes_per_round is "
            f"{policy.max_bytes_per_round}",
        )
    program = (run.sites[site].prepare or run.prepare).mask_command
    if program and program not in policy.programs:
        raise _no(site, f"it would start the program {' '.join(program)!r}; policy.programs does not list it")
    _allow_exchange(policy.exchange, site, run.exchange)
    allow_names(policy, site, plan.shared)


def _allow_exchange(allowed: ExchangePolicy, site: str, exchange: Exchange) -> None:
    """Refuse a run that clips less than it must, or sends values of another type."""
    most = allowed.clip_at_most
    if most is not None and (exchange.clip is None or exchange.clip > most):
        clips = "does not clip" if exchange.clip is None else f"clips at {exchange.clip:g}"
        raise _no(site, f"it {clips} (exchange.clip); policy.exchange.clip_at_most is {most:g}")
    if allowed.values is not None and exchange.values not in allowed.values:
        raise _no(
            site,
            f"it sends {exchange.values} (exchange.values); policy.exchange.values allows "
            f"{', '.join(allowed.values)}",
        )


def allow_names(policy: Policy, site: str, names: Iterable[str]) -> None:
    """Refuse tensors that may not leave; the scales of one leave with it."""
    for name in map(tensor_of, names):
        if not any(fnmatchcase(name, pattern) for pattern in policy.leaves):
            raise _no(site, f"{name!r} would leave; no pattern of policy.leaves allows it")


def allow_subjects(policy: Policy, site: str, n_subjects: int) -> None:
    """Refuse to train on too few; the number itself is not told."""
    if n_subjects < policy.min_subjects:
        raise _no(site, f"it has fewer training subjects than policy.min_subjects, {policy.min_subjects}")


def _no(site: str, reason: str) -> PolicyError:
    return PolicyError(f"{site}: takes no part: {reason}")

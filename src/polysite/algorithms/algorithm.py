"""The contract: an algorithm states only what differs from federated averaging, which is this class."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from polysite.algorithms.mean import WeightedMean
from polysite.config.base import Section


@dataclass
class Place:
    """What an algorithm may know of the site where it works."""

    name: str
    round: int
    seed: int
    """For this site and round: whatever is drawn here comes from it."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """Never leaves the site and is part of its checkpoint: personal models, teachers, control variates."""


@dataclass(frozen=True)
class Message:
    """What one site sends in one round. Its tensors are its own, never the model's, and nobody changes them."""

    site: str
    tensors: Mapping[str, Tensor]
    weight: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Losses, times and counts, as JSON; never part of the aggregation."""


class Fit(Protocol):
    """The task's training loop at one site for one round, with this round's data, optimisers and seed."""

    def __call__(
        self,
        model: nn.Module,
        *,
        penalty: Callable[[nn.Module], Tensor] | None = None,
        guide: Callable[[Any], Tensor | Mapping[str, Tensor]] | None = None,
        after_step: Callable[[nn.Module], None] | None = None,
        only: Collection[str] | None = None,
        moments: str | None = None,
    ) -> None:
        """Train ``model`` in place; see ``polysite.tasks.task.Task.fit``.

        Parameters
        ----------
        guide
            May also give the parts of its loss by name: their sum is added, and each is reported.
        moments
            Name of optimiser moments of their own, kept in the site's memory, for a second model (Ditto's
            personal one); default: those of the site's model. The losses then have the name before them.
            The n-th call with a name sees the samples of the n-th call without, and of a second call without
            a name the losses have ``_2`` behind them.
        """


class Algorithm:
    """Federated averaging (McMahan et al., AISTATS 2017): everything travels, buffers included.

    A model's adversaries stay at home unless ``private`` says otherwise: ``private: []`` shares the
    discriminators too, as in the original FedGAN.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Preset name -> defaults of the run below the user's own values; the first is the default."""
    pools_data: ClassVar[bool] = False
    """True for the centralised reference, which breaks the federation's rule on purpose."""
    compares_features: ClassVar[bool] = False
    """True where a method needs a task whose networks give features."""

    class Settings(Section):
        """Settings that every algorithm has."""

        preset: str | None = None
        private: tuple[str, ...] = Field(
            default=("discriminators.*",), description="patterns of names that never leave a site"
        )
        share_statistics: bool = Field(default=True, description="batch-norm statistics travel too")
        weights: Literal["samples", "equal"] = "samples"

    def __init__(self, settings: "Algorithm.Settings") -> None:
        self.settings = settings

    def shared(self, model: nn.Module) -> set[str]:
        """Names in ``model.state_dict()`` that leave the site."""
        names = set(model.state_dict()) - matching(model, self.settings.private)
        return names if self.settings.share_statistics else names - statistics(model)

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """One round's work at one site; returns what the site sends.

        ``model`` already holds what arrived (``news``) in its shared names and the site's own rest.
        """
        fit(model)
        return self.sent(model)

    def sent(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's shared tensors: what plain averaging sends."""
        state = model.state_dict()
        return {name: state[name] for name in sorted(self.shared(model))}

    def evaluated(self, memory: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The model that predicts at a site, by name: default: what the server holds on top of the site's own part.

        Parameters
        ----------
        memory : mapping of str to Tensor
            The site's, of which a personal model or a teacher may be given instead.
        model : mapping of str to Tensor
            The default.
        """
        return model

    def aggregate(self, server: Mapping[str, Tensor], messages: Iterable[Message]) -> dict[str, Tensor]:
        """The server's next state from its last and the sites' messages, read once and in order.

        What is given back is stored and sent from where it lies, while the next round goes on: nobody changes it.
        """
        mean = WeightedMean()
        for message in messages:
            mean.add(message.tensors, message.weight if self.settings.weights == "samples" else 1.0)
        return {**server, **mean.result()}


def matching(model: nn.Module, patterns: Iterable[str]) -> set[str]:
    """Names of the model's state that match one of the shell-style patterns."""
    patterns = tuple(patterns)
    return {name for name in model.state_dict() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def of_modules(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> set[str]:
    """Names of the parameters and buffers of modules of some types, under every name that a module has."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, kinds)
        for name in module.state_dict()
    }


def statistics(model: nn.Module) -> set[str]:
    """Names of batch-norm buffers, found by module type, never by the letters of a name."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return of_modules(model, (_BatchNorm,)) - parameters

"""One process, one site after another: the default carrier, with nothing between site and server."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.config.base import Section
from polysite.federation.crew import Crew
from polysite.threads import cores, one_thread


class Here:
    """Sites take turns in this process; what they hold meanwhile lies on disk, so memory stays flat."""

    class Settings(Section):
        """Settings of the engine."""

        threads: int | None = Field(
            default=None, ge=1, description="threads of a site's work; default: all cores"
        )

    def __init__(self, settings: "Here.Settings", crew: Crew) -> None:
        self._crew = crew
        self._threads = settings.threads or cores()
        torch.set_num_threads(self._threads)

    def visit(self, round_: int, news: Mapping[str, Tensor], sites: Iterable[str]) -> Iterator[Message]:
        """One message a site, made when it is asked for."""
        for name in sites:
            message = self._crew.sites[name].work(round_, news)
            with one_thread():  # whoever takes the message
                yield message

    def close(self) -> None:
        """Nothing was started."""

"""The trained model of one site, and one image prepared for it."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polysite import recipe
from polysite.config.run import Run
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.prepare import prepare_case
from polysite.data.steps import Steps
from polysite.errors import CheckpointError, ConfigError
from polysite.federation.crew import make_task
from polysite.federation.tensor_files import read_tensors
from polysite.run import require_device
from polysite.seal import trained_model
from polysite.threads import cores


class Predictor:
    """The trained model of one site of a run.

    Raises
    ------
    ConfigError
        If the run has no such site, or the machine has no such device.
    CheckpointError
        If the training has not ended, or the model's file is damaged.
    """

    def __init__(self, folder: Path, run: Run, site: str) -> None:
        if site not in run.sites:
            raise ConfigError(f"{folder}: has no site {site!r}; choose one of: {', '.join(run.sites)}")
        path = trained_model(folder, site)
        require_device(run.device)
        self.run, self.site = run, site
        torch.set_num_threads(run.engine.settings.get("threads") or cores())
        self.task: Any = make_task(run)
        self.model: nn.Module = self.task.build(site, None)
        try:
            self.model.load_state_dict(read_tensors(path))
        except RuntimeError as error:
            raise CheckpointError(
                f"{path}: does not fit the networks of {folder / 'config.yaml'}; restore both from one backup"
            ) from error

    def prepared(self, found: Case, contrast: str) -> Iterator[PreparedCase]:
        """One image of a case, prepared in a folder that goes away afterwards."""
        site = self.run.sites[self.site]
        # for segmentation every image is a case of its own
        part = contrast if site.labels else None
        alone = replace(found, images={contrast: found.images[contrast]}, labels={}, part=part)
        settings = site.prepare or self.run.prepare
        with tempfile.TemporaryDirectory(prefix="polysite-") as folder:
            yield prepare_case(alone, settings, Path(folder), steps=self._steps())

    def _steps(self) -> Steps:
        """What slow steps gave in training, where that is at hand; of a run that was moved it need not be."""
        kept = self.run.cache_folder() / "steps"
        return Steps(kept if kept.is_dir() and os.access(kept, os.W_OK) else None)


def on_device(run: Run, device: str | None) -> Run:
    """The run on the device of ``--device``, if there is one."""
    if device is None:
        return run
    content = run.model_dump(mode="json") | {"device": device}
    return recipe.build(content, "--device")

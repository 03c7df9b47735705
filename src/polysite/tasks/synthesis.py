"""Synthesis of one MR contrast from another: a generator for all tasks, one discriminator a task.

Losses and steps as in Dalmaz et al. (Medical Image Analysis 2024), section 3: least-squares adversarial loss and
100 times the mean absolute error; one discriminator step, then one generator step, on the same fake.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite.config.base import Component, Section
from polysite.config.site import Site, parse_task
from polysite.config.training import Training
from polysite.data.cache import PreparedCase
from polysite.data.sampling import frame, unframe
from polysite.networks.arrange import arrange
from polysite.networks.discriminator import Discriminator
from polysite.networks.dropout import seed_dropout
from polysite.networks.initialise import initialise
from polysite.seeds import derive, numpy_stream, torch_stream
from polysite.tasks.loop import adam, batches_of, descend, precision, shadow, train
from polysite.tasks.network import network_of
from polysite.tasks.slices import Batch, PooledSlices, SiteSlices
from polysite.tasks.task import AfterStep, Effort, Guide, Pass, Penalty


class SynthesisModel(nn.Module):
    """What one site trains: the generator, and a discriminator for each of its tasks (``"T1w-T2w"``)."""

    def __init__(self, generator: nn.Module, discriminators: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.generator = generator
        self.discriminators = nn.ModuleDict(dict(discriminators))

    def networks(self) -> dict[str, nn.Module]:
        """Networks by the prefix of their names in ``state_dict()``."""
        return {
            "generator": self.generator,
            **{f"discriminators.{key}": network for key, network in self.discriminators.items()},
        }


def task_key(text: str) -> str:
    """A task as part of a tensor or file name.

    >>> task_key("T1w->T2w")
    'T1w-T2w'
    """
    return "-".join(parse_task(text))


def _window(size: int | tuple[int, int]) -> int | tuple[int, int]:
    for n in (size,) if isinstance(size, int) else size:
        if n % 4 or not 16 <= n <= 2048:
            raise ValueError(f"use multiples of 4 from 16 to 2048, not {n}")
    return size


class Synthesis:
    """The synthesis task of a run.

    Parameters
    ----------
    settings : Synthesis.Settings
    network : Component
        The generator: a registered network, which takes ``(source, site, source_contrast, target_contrast)``.
    contrasts : sequence of str
        In code order.
    sites : mapping of str to Site
        With their tasks; the order of the sites is the order of their codes.
    """

    gives_features: ClassVar[bool] = False

    class Settings(Section):
        """Settings of the task."""

        image_size: Annotated[int | tuple[int, int], AfterValidator(_window)] = Field(
            default=256, description="training window (x, y), multiples of 4 from 16 to 2048"
        )
        l1_weight: float = Field(default=100.0, ge=0)
        adversarial_weight: float = Field(default=1.0, ge=0)
        discriminator_width: int = Field(default=64, ge=4, le=1024)

    def __init__(
        self,
        settings: "Synthesis.Settings",
        *,
        network: Component,
        training: Training,
        contrasts: Sequence[str],
        sites: Mapping[str, Site],
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.training = training
        self.contrasts = tuple(contrasts)
        self.tasks = {name: site.tasks for name, site in sites.items()}
        self.site_codes = {name: code for code, name in enumerate(sites)}
        self.device = torch.device(device)
        self._network_class, self._network_settings = network_of(network, "synthesis", "n_contrasts")

    # --- models -----------------------------------------------------------------------------------------

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> SynthesisModel:
        """A site's model; ``site=None`` has the discriminators of all tasks (pooled data).

        Every network is initialised from its own stream of the seed, so the same network starts equal at all
        sites. ``seed=None`` leaves the weights as the constructors made them.
        """
        texts = (
            sorted({text for tasks in self.tasks.values() for text in tasks})
            if site is None
            else self.tasks[site]
        )
        model = SynthesisModel(
            self._network_class(
                self._network_settings, n_sites=len(self.site_codes), n_contrasts=len(self.contrasts)
            ),
            {
                task_key(text): Discriminator(Discriminator.Settings(width=self.settings.discriminator_width))
                for text in texts
            },
        )
        if seed is not None:
            for name, network in model.networks().items():
                initialise(network, torch_stream(seed, "initial", name))
        if device == "meta":
            return model
        for network in model.to(self.device).networks().values():
            arrange(network, channels_last=self.training.channels_last, compiled=self.training.compile)
        return model

    def private(self) -> tuple[str, ...]:
        """Nothing beyond what the method keeps."""
        return ()

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """Generator and discriminators by name."""
        assert isinstance(model, SynthesisModel)
        return model.networks()

    def optimisers(self, model: nn.Module) -> dict[str, Optimizer]:
        """Adam for every network."""
        return adam(self.networks(model), self.training)

    # --- data -------------------------------------------------------------------------------------------

    def data(self, site: str, cases: Sequence[PreparedCase]) -> SiteSlices:
        """A site's prepared cases as slices for training or validation."""
        return SiteSlices(
            self.site_codes[site], self.contrasts, self.tasks[site], cases, self.settings.image_size
        )

    def pool(self, members: Sequence[SiteSlices]) -> PooledSlices:
        """The slices of several sites as one data set."""
        return PooledSlices(members)

    # --- training ---------------------------------------------------------------------------------------

    def fit(
        self,
        model: nn.Module,
        data: SiteSlices | PooledSlices,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        *,
        penalty: Penalty | None = None,
        guide: Guide | None = None,
        after_step: AfterStep | None = None,
        only: Collection[str] | None = None,
    ) -> dict[str, float]:
        """Train in place for one round; see ``polysite.tasks.task.Task.fit``."""
        assert isinstance(model, SynthesisModel)
        seed_dropout(model, derive(effort.seed, "dropout"))
        return train(
            model,
            batches_of(data, effort, numpy_stream(effort.seed, "slices")),
            optimisers,
            lambda batch: self.step(model, batch.to(self.device), optimisers, penalty, guide),
            learning_rate=self.training.learning_rate * effort.rate_factor,
            after_step=after_step,
            only=only,
        )

    def step(
        self,
        model: SynthesisModel,
        batch: Batch,
        optimisers: Mapping[str, Optimizer],
        penalty: Penalty | None = None,
        guide: Guide | None = None,
    ) -> dict[str, Tensor]:
        """One discriminator step, then one generator step, on the same fake; the losses, detached."""
        inputs = (batch.source, batch.site, batch.source_contrast, batch.target_contrast)
        with self._precision():
            fake = model.generator(*inputs)
        fake = fake.float()
        parts = self._by_task(batch)

        discriminator_loss = fake.new_zeros(())
        for key, rows in parts.items():
            source, share = batch.source[rows], len(rows) / len(fake)
            judge = model.discriminators[key]
            with self._precision():
                false = judge(source, fake.detach()[rows])
                true = judge(source, batch.target[rows])
            loss = 0.5 * (false.float().square().mean() + (true.float() - 1).square().mean())
            discriminator_loss = discriminator_loss + share * loss
        descend(
            discriminator_loss if penalty is None else discriminator_loss + penalty(model),
            [optimisers[f"discriminators.{key}"] for key in parts],
        )

        adversarial_loss = fake.new_zeros(())
        with _frozen(model.discriminators):
            for key, rows in parts.items():
                with self._precision():
                    judged = model.discriminators[key](batch.source[rows], fake[rows])
                adversarial_loss = (
                    adversarial_loss + len(rows) / len(fake) * (judged.float() - 1).square().mean()
                )
            l1_loss = (fake - batch.target).abs().mean()
            generator_loss = (
                self.settings.adversarial_weight * adversarial_loss + self.settings.l1_weight * l1_loss
            )
            total = generator_loss if penalty is None else generator_loss + penalty(model)
            if guide is not None:
                total = total + guide(Pass(fake, lambda values: self._again(model, values, inputs)))
            descend(total, [optimisers["generator"]])
        return {
            "generator": generator_loss.detach(),
            "adversarial": adversarial_loss.detach(),
            "l1": l1_loss.detach(),
            "discriminator": discriminator_loss.detach(),
        }

    def _again(
        self, model: SynthesisModel, values: Mapping[str, Tensor], inputs: tuple[Tensor, ...]
    ) -> Tensor:
        with self._precision():
            fake: Tensor = shadow(model, values, "generator", inputs)
        return fake.float()

    def _by_task(self, batch: Batch) -> dict[str, Tensor]:
        """Rows of a batch by task key, in code order."""
        pair = batch.source_contrast * len(self.contrasts) + batch.target_contrast
        return {
            f"{self.contrasts[code // len(self.contrasts)]}-{self.contrasts[code % len(self.contrasts)]}": rows
            for code in torch.unique(pair).tolist()
            for rows in [torch.nonzero(pair == code).flatten()]
        }

    def _precision(self) -> torch.autocast:
        return precision(self.device, self.training)

    # --- use --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(
        self, model: nn.Module, data: SiteSlices | PooledSlices, n_samples: int, seed: int
    ) -> dict[str, float]:
        """Mean absolute error in [-1, 1] and PSNR (data range 2, pooled error) on held-out slices."""
        assert isinstance(model, SynthesisModel)
        model.eval()
        absolute = squared = 0.0
        n_values = 0
        for batch in data.batches(numpy_stream(seed, "validation"), 1, n_samples):
            batch = batch.to(self.device)
            with self._precision():
                fake = model.generator(batch.source, batch.site, batch.source_contrast, batch.target_contrast)
            error = (fake.float() - batch.target).double()
            absolute += float(error.abs().sum())
            squared += float(error.square().sum())
            n_values += error.numel()
        return {
            "l1": absolute / n_values,
            "psnr_db": 10 * float(np.log10(4 * n_values / max(squared, 1e-12))),
        }

    @torch.no_grad()
    def predict(
        self, model: nn.Module, case: PreparedCase, text: str, site: str, *, batch_size: int = 8
    ) -> NDArray[np.float32]:
        """A case's whole volume for one task: every slice, (z, x, y) in [-1, 1] on the prepared grid."""
        assert isinstance(model, SynthesisModel)
        model.eval()
        source_name, target_name = parse_task(text)
        volume = case.volume(source_name)
        window = frame(volume.shape, case.mask(), self.settings.image_size)
        slices = torch.from_numpy(window.cut(np.asarray(volume, dtype=np.float32)))[:, None]
        codes = (
            self.site_codes[site],
            self.contrasts.index(source_name),
            self.contrasts.index(target_name),
        )
        made = []
        for chunk in torch.split(slices, batch_size):
            on_device = [torch.full((len(chunk),), code, device=self.device) for code in codes]
            with self._precision():
                made.append(model.generator(chunk.to(self.device), *on_device).float().cpu())
        return unframe(torch.cat(made)[:, 0].numpy(), window)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for a module's parameters, only through it: saves a third of its backward pass."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)

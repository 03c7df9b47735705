"""Segmentation of volumes: one network a site, whose head has the site's own classes or the run's.

Dice loss and cross-entropy over a fixed list of classes, so that a volume that lacks a class has a loss like any
other; where a site labels only some classes, its labels are compared with sums of probabilities.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from polysite.config.base import Component, Name, Section
from polysite.config.site import Site
from polysite.config.training import Training
from polysite.data.frame import about_centre, pair, unframe
from polysite.errors import ConfigError
from polysite.losses.supervised import cross_entropy, dice_loss
from polysite.networks.arrange import arrange
from polysite.networks.dropout import seed_dropout
from polysite.networks.initialise import initialise
from polysite.networks.segmented import Segmented
from polysite.seeds import derive, numpy_stream, torch_stream
from polysite.tasks.augment import Augment
from polysite.tasks.labelling import BACKGROUND, labelling
from polysite.tasks.loop import adam, batches_of, descend, precision, shadow, train
from polysite.tasks.network import network_of
from polysite.tasks.overlap import dice_scores
from polysite.tasks.task import AfterStep, Effort, Guide, Pass, Penalty
from polysite.tasks.volumes import Batch, LabelledCase, SiteVolumes, Volumes


class SegmentationModel(nn.Module):
    """What one site trains."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter


Size = Annotated[int, Field(ge=8, le=2048)]


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    if BACKGROUND in classes:
        raise ValueError("'background' is always the first class; leave it out")
    if len(set(classes)) < len(classes):
        raise ValueError(f"a class is listed twice: {', '.join(classes)}")
    return classes


class Segmentation:
    """The segmentation task of a run.

    Parameters
    ----------
    settings : Segmentation.Settings
    network : Component
        A registered network whose constructor takes ``heads`` and which gives
        ``polysite.networks.segmented.Segmented`` for ``(image, head)``; ``min_size`` is the least x and y.
    sites : mapping of str to Site
        With their labels.

    Raises
    ------
    ConfigError
        If a site's labels do not fit the classes, or the network is for another task.
    """

    gives_features: ClassVar[bool] = True

    class Settings(Section):
        """Settings of the task."""

        classes: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)] | None = Field(
            default=None,
            description="one list of classes for all sites, without the background; default: every site "
            "has the classes that it labels, in their order, and sites with equal lists have heads of one name",
        )
        image_size: Size | tuple[Size, Size] = Field(
            default=200,
            description="window (x, y) about the centre of the slices that training and prediction see, any size "
            "from 8; the target must lie inside",
        )
        n_slices: int | None = Field(
            default=None,
            ge=1,
            description="training takes at most so many neighbouring slices of a volume; default: all",
        )
        window: Size | tuple[Size, Size] | None = Field(
            default=None,
            description="prediction of whole slices, in windows of this size that overlap by half; default: of the "
            "training window alone, because of what lies outside the network has learnt nothing",
        )
        dice_weight: float = Field(default=1.0, ge=0, description="of the Dice loss")
        cross_entropy_weight: float = Field(default=1.0, ge=0, description="of the cross-entropy")
        augment: Augment | None = Field(
            default=Augment(), description="random changes of training volumes; `null`: none"
        )

        @model_validator(mode="after")
        def _something_to_learn(self) -> "Segmentation.Settings":
            if not self.dice_weight and not self.cross_entropy_weight:
                raise ValueError("dice_weight and cross_entropy_weight are both 0: nothing would be learnt")
            return self

    def __init__(
        self,
        settings: "Segmentation.Settings",
        *,
        network: Component,
        training: Training,
        contrasts: Sequence[str],
        sites: Mapping[str, Site],
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.training = training
        self.labellings = {name: labelling(name, site, settings.classes) for name, site in sites.items()}
        lists: dict[str, tuple[str, ...]] = {}
        for name, its in self.labellings.items():
            if lists.setdefault(its.head, its.classes) != its.classes:
                raise ConfigError(f"sites.{name}.labels: other classes elsewhere also join to {its.head!r}")
        self.device = torch.device(device)
        self._network_class, self._network_settings = network_of(network, "segmentation", "heads")

    def classes(self, site: str) -> tuple[str, ...]:
        """A site's classes in the order of its predictions, background first."""
        return self.labellings[site].classes

    # --- models -----------------------------------------------------------------------------------------

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> SegmentationModel:
        """A site's model; ``site=None`` has the heads of all sites (pooled data).

        The network is initialised from the seed's stream, heads last, so all but the heads starts equal at
        all sites. ``seed=None`` leaves the weights as the constructors made them.
        """
        known = self.labellings.values() if site is None else [self.labellings[site]]
        heads = {labelling.head: len(labelling.classes) for labelling in known}
        model = SegmentationModel(self._network_class(self._network_settings, heads=heads))
        if seed is not None:
            initialise(model.segmenter, torch_stream(seed, "initial", "segmenter"))
        if device == "meta":
            return model
        model.to(self.device)
        arrange(model.segmenter, channels_last=self.training.channels_last, compiled=self.training.compile)
        return model

    def private(self) -> tuple[str, ...]:
        """The heads, unless all sites have the same classes."""
        alike = len({labelling.classes for labelling in self.labellings.values()}) == 1
        return () if alike else ("segmenter.heads.*",)

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The one network."""
        assert isinstance(model, SegmentationModel)
        return {"segmenter": model.segmenter}

    def optimisers(self, model: nn.Module) -> dict[str, Optimizer]:
        """Adam."""
        return adam(self.networks(model), self.training)

    # --- data -------------------------------------------------------------------------------------------

    def data(self, site: str, cases: Sequence[LabelledCase]) -> Volumes:
        """A site's labelled cases for training or validation."""
        settings = self.settings
        return Volumes(
            [
                SiteVolumes(
                    self.labellings[site], cases, settings.image_size, settings.n_slices, settings.augment
                )
            ]
        )

    def pool(self, members: Sequence[Volumes]) -> Volumes:
        """The volumes of several sites as one data set."""
        return Volumes([site for member in members for site in member.members])

    # --- training ---------------------------------------------------------------------------------------

    def fit(
        self,
        model: nn.Module,
        data: Volumes,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        *,
        penalty: Penalty | None = None,
        guide: Guide | None = None,
        after_step: AfterStep | None = None,
        only: Collection[str] | None = None,
    ) -> dict[str, float]:
        """Train in place for one round; see ``polysite.tasks.task.Task.fit``.

        Where the volumes of a step differ in head or depth, the guide sees each kind in a pass of its own.
        """
        assert isinstance(model, SegmentationModel)
        seed_dropout(model, derive(effort.seed, "dropout"))
        return train(
            model,
            batches_of(data, effort, numpy_stream(effort.seed, "volumes")),
            optimisers,
            lambda batches: self.step(model, batches, optimisers, penalty, guide),
            learning_rate=self.training.learning_rate * effort.rate_factor,
            after_step=after_step,
            only=only,
        )

    def step(
        self,
        model: SegmentationModel,
        batches: Sequence[Batch],
        optimisers: Mapping[str, Optimizer],
        penalty: Penalty | None = None,
        guide: Guide | None = None,
    ) -> dict[str, Tensor]:
        """One optimiser step on the mean over the volumes of all batches; the losses, detached."""
        n_volumes = sum(len(batch) for batch in batches)
        total = torch.zeros((), device=self.device)
        losses: dict[str, Tensor] = {}
        for batch in batches:
            batch, share = batch.to(self.device), len(batch) / n_volumes
            inputs = (batch.image, batch.head)
            with self._precision():
                output: Segmented = model.segmenter(*inputs)
            parts = self._losses(output.logits, batch)
            total = total + share * parts["segmentation"]
            if guide is not None:
                total = total + share * guide(Pass(output, self._again(model, inputs)))
            for name, value in parts.items():
                losses[name] = losses.get(name, 0.0) + share * value.detach()
        descend(total if penalty is None else total + penalty(model), optimisers.values())
        return losses

    def _losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        dice = dice_loss(logits, batch.labels, batch.groups)
        entropy = cross_entropy(logits, batch.labels, batch.groups)
        weighted = self.settings.dice_weight * dice + self.settings.cross_entropy_weight * entropy
        return {"segmentation": weighted, "dice_loss": dice, "cross_entropy": entropy}

    def _again(
        self, model: SegmentationModel, inputs: tuple[Tensor, str]
    ) -> Callable[[Mapping[str, Tensor]], Segmented]:
        def again(values: Mapping[str, Tensor]) -> Segmented:
            with self._precision():
                output: Segmented = shadow(model, values, "segmenter", inputs)
            return output

        return again

    def _precision(self) -> torch.autocast:
        return precision(self.device, self.training)

    # --- use --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, model: nn.Module, data: Volumes, n_samples: int, seed: int) -> dict[str, float]:
        """Loss, and mean Dice of the labelled classes, over at most ``n_samples`` held-out volumes of a site.

        Each volume counts once, unchanged, in the training window with all its slices. A class that is
        neither there nor found has Dice 1.
        """
        assert isinstance(model, SegmentationModel)
        model.eval()
        losses, scores = [], []
        for batch in data.whole(numpy_stream(seed, "validation"), n_samples):
            batch = batch.to(self.device)
            with self._precision():
                logits = model.segmenter(batch.image, batch.head).logits
            losses.append(self._losses(logits, batch)["segmentation"])
            probabilities = F.softmax(logits.float(), dim=1)
            scores.append(dice_scores(probabilities, batch.labels, batch.groups).mean())
        return {"dice": float(torch.stack(scores).mean()), "loss": float(torch.stack(losses).mean())}

    @torch.no_grad()
    def predict(self, model: nn.Module, case: LabelledCase, site: str) -> NDArray[np.float32]:
        """Probabilities of a case's volume, (class, z, x, y) on the prepared grid; background where nothing is seen.

        Parameters
        ----------
        site : str
            Whose head; its classes are ``classes(site)``.
        """
        assert isinstance(model, SegmentationModel)
        model.eval()
        volume = np.asarray(case.volume(case.part), dtype=np.float32)
        least = model.segmenter.min_size
        x, y = volume.shape[1:] if self.settings.window else pair(self.settings.image_size)
        window = about_centre(volume.shape, (max(x, least), max(y, least)))
        image = torch.from_numpy(window.cut(volume, fill=float(volume.min())))[None, None].to(self.device)
        head = self.labellings[site].head

        def probabilities(part: Tensor) -> Tensor:
            with self._precision():
                logits = model.segmenter(part, head).logits
            return F.softmax(logits.float(), dim=1)

        whole = unframe(self._in_windows(image, probabilities)[0].cpu().numpy(), window)
        outside = whole[0] < 0
        whole[:, outside] = 0
        whole[0, outside] = 1
        return whole

    def _in_windows(self, image: Tensor, see: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function of an image makes of the whole, or of windows, blended by a Gaussian."""
        size, window = image.shape[2:], self.settings.window
        if window is None:
            return see(image)
        x, y = (window, window) if isinstance(window, int) else window
        part = (size[0], min(x, size[1]), min(y, size[2]))
        if part == tuple(size):
            return see(image)
        from monai.inferers import sliding_window_inference  # takes seconds

        made: Tensor = sliding_window_inference(image, part, 1, see, overlap=0.5, mode="gaussian")
        return made

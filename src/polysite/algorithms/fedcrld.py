"""FedCRLD: a shared encoder beside a local one, compared with it, and a teacher that is the site's own history.

Qi et al., "Contrastive re-localization and history distillation in federated CMR segmentation", MICCAI 2022,
LNCS 13435:256-265. The re-localization itself is in the network (``polysite.networks.crld``).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm, Fit, Place, matching
from polysite.algorithms.features import features_of
from polysite.algorithms.momentum import follow, recall, remember, teacher, teacher_of
from polysite.algorithms.queue import Queue
from polysite.errors import ConfigError
from polysite.losses.contrastive import info_nce, sample_tokens, symmetric_kl
from polysite.losses.distillation import distillation, feature_mse
from polysite.seeds import torch_stream

Term = Callable[[Any, Any], Tensor]


class FedCRLD(Algorithm):
    """The global encoder alone is averaged; everything else is the site's own.

    A teacher, the momentum model of the site's own training, sees every volume too: its probabilities and
    features are learnt (history distillation), and the features of both encoders are brought to agree
    (contrastive term). The teacher is never overwritten by what arrives.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "repaired": {
            "network": {"name": "fedcrld", "cross_roles": "local_query"},
            "training": {"learning_rate": 3e-4, "betas": [0.9, 0.999], "batch_size": 1},
        },
        "faithful": {
            "network": {"name": "fedcrld", "width": 64, "cross_roles": "global_query"},
            "algorithm": {
                "momentum": 0.5,
                "bank_size": 0,
                "contrast": "kl",
                "contrast_weight": 1.0,
                "weights": "equal",
            },
            "training": {
                "rounds": 400,
                "epochs_per_round": 5,
                "learning_rate": 3e-4,
                "flat_rounds": 999_999,
                "betas": [0.9, 0.999],
                "batch_size": 1,
            },
        },
    }

    compares_features = True

    class Settings(Algorithm.Settings):
        """Settings of FedCRLD; a weight of 0 switches its term off."""

        shared: tuple[str, ...] = Field(
            default=("segmenter.global_encoder.*",), description="patterns of names that are averaged"
        )
        contrast: Literal["kl", "infonce"] = Field(
            default="kl",
            description="kl: symmetric divergence between the encoders' channels at every voxel; infonce: a lower "
            "bound of their mutual information, other voxels and the queue being the negatives",
        )
        contrast_weight: float = Field(default=0.1, ge=0, description="λ, weight of the contrastive term")
        temperature: float = Field(default=0.1, gt=0, description="infonce: of the cosines")
        n_tokens: int = Field(default=256, ge=2, description="infonce: voxels of a volume that are compared")
        queue_size: int = Field(
            default=0,
            ge=0,
            description="infonce: tokens of earlier volumes, as the teacher saw them, as negatives",
        )
        output_weight: float = Field(default=0.2, ge=0, description="of the teacher's probabilities")
        feature_weight: float = Field(
            default=1.0, ge=0, description="of the teacher's features, global and local"
        )
        momentum: float = Field(
            default=0.5, ge=0, lt=1, description="m: what stays of the teacher at every step of the student"
        )
        bank_size: int = Field(
            default=0,
            ge=0,
            le=20,
            description="above 0: the teacher is the mean of so many last states at the ends of rounds",
        )
        predict_with: Literal["student", "teacher"] = Field(
            default="student", description="which model a site predicts with"
        )

    settings: "FedCRLD.Settings"

    def shared(self, model: nn.Module) -> set[str]:
        """The global encoder."""
        names = matching(model, self.settings.shared) & super().shared(model)
        if not names:
            raise ConfigError(
                f"algorithm.shared: no tensor of the network matches {', '.join(self.settings.shared)!r}; "
                "use network: {name: fedcrld}, or correct the pattern"
            )
        return names

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the terms that have a weight, the teacher following every step."""
        settings, terms = self.settings, self._terms(site)
        state = model.state_dict()
        taught, momentum = {}, {}
        if self._has_teacher() and settings.bank_size:
            history = recall(site.memory) or state
            taught = {name: history[name].to(tensor.device, copy=True) for name, tensor in state.items()}
        elif self._has_teacher():
            taught = momentum = teacher(site.memory, state)

        def guide(seen: Any) -> Mapping[str, Tensor]:
            lesson = seen.again(taught) if self._teaches() else None
            return {name: term(seen.output, lesson) for name, term in terms.items()}

        def after_step(model: nn.Module) -> None:
            follow(momentum, model.state_dict(), settings.momentum)

        fit(model, guide=guide if terms else None, after_step=after_step if momentum else None)
        if self._has_teacher() and settings.bank_size:
            remember(site.memory, model.state_dict(), settings.bank_size)
        return self.sent(model)

    def evaluated(self, memory: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The student on top of what arrived, or the teacher as it is."""
        if self.settings.predict_with == "student":
            return model
        taught = recall(memory) if self.settings.bank_size else teacher_of(memory)
        return {name: taught.get(name, tensor) for name, tensor in model.items()}

    # --- the loss -----------------------------------------------------------------------------------------

    def _teaches(self) -> bool:
        """Whether a term needs the teacher's output."""
        settings = self.settings
        queues = settings.contrast == "infonce" and settings.contrast_weight > 0 and settings.queue_size > 0
        return settings.output_weight > 0 or settings.feature_weight > 0 or queues

    def _has_teacher(self) -> bool:
        return self._teaches() or self.settings.predict_with == "teacher"

    def _terms(self, site: Place) -> dict[str, Term]:
        """What is added to the task's loss by name, each from the student's and the teacher's output."""
        settings = self.settings
        terms: dict[str, Term] = {}
        if settings.output_weight:
            terms["distillation"] = lambda own, lesson: (
                settings.output_weight * distillation(own.logits, lesson.logits)
            )
        if settings.feature_weight:
            terms["features"] = self._features
        if settings.contrast_weight and settings.contrast == "kl":
            terms["contrast"] = lambda own, _: settings.contrast_weight * symmetric_kl(*_branches(own))
        elif settings.contrast_weight:
            terms["contrast"] = self._mutual_information(site)
        return terms

    def _features(self, own: Any, lesson: Any) -> Tensor:
        pairs = zip(_branches(own), _branches(lesson), strict=True)
        return self.settings.feature_weight * torch.stack([feature_mse(*pair) for pair in pairs]).sum()

    def _mutual_information(self, site: Place) -> Term:
        settings = self.settings
        stream = torch_stream(site.seed, "tokens")
        queue = Queue(site.memory, settings.queue_size)

        def term(own: Any, lesson: Any) -> Tensor:
            tokens = sample_tokens(*_branches(own), settings.n_tokens, stream)
            local_bank, global_bank = queue.content(tokens[0].device) or (None, None)
            loss = info_nce(
                *tokens, temperature=settings.temperature, local_bank=local_bank, global_bank=global_bank
            )
            if settings.queue_size:
                queue.put(*sample_tokens(*_branches(lesson), settings.n_tokens, stream))
            return settings.contrast_weight * loss

        return term


def _branches(output: Any) -> tuple[Tensor, Tensor]:
    """Local and global features."""
    features = features_of(output, "fedcrld")
    if not {"local", "global"} <= set(features):
        raise ConfigError(
            f"algorithm.name: fedcrld compares a local and a global encoder, and this network has "
            f"{', '.join(features)}; use network: {{name: fedcrld}}"
        )
    return features["local"], features["global"]

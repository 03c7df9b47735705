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
            "algorithm": {"momentum": 0.5, "bank_size": 0, "contrast": "kl", "weights": "equal"},
            "training": {
                "rounds": 400,
                "epochs_per_round": 5,
                "learning_rate": 3e-4,
                "betas": [0.9, 0.999],
                "batch_size": 1,
            },
        },
    }

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
        names = matching(model, self.settings.shared) - matching(model, self.settings.private)
        if not names:
            raise ConfigError(
                f"algorithm.shared: no tensor of the network matches {', '.join(self.settings.shared)!r}; "
                "use network: {name: fedcrld}"
            )
        return names

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the terms that have a weight, the teacher following every step."""
        settings = self.settings
        terms = self._terms(site)
        distils = settings.output_weight > 0 or settings.feature_weight > 0
        if not (terms or distils or settings.predict_with == "teacher"):
            return super().local(site, model, fit, news)
        history = recall(site.memory) if settings.bank_size else {}
        momentum = {} if settings.bank_size else teacher(site.memory, model.state_dict())
        taught = history or momentum or {name: value.clone() for name, value in model.state_dict().items()}

        def guide(seen: Any) -> Tensor:
            lesson = seen.again(taught) if distils or settings.queue_size else None
            return torch.stack([term(seen.output, lesson) for term in terms]).sum()

        def after_step(model: nn.Module) -> None:
            follow(momentum, model.state_dict(), settings.momentum)

        fit(model, guide=guide if terms else None, after_step=after_step if momentum else None)
        if settings.bank_size:
            remember(site.memory, model.state_dict(), settings.bank_size)
        return self.sent(model)

    def evaluated(self, memory: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The student on top of what arrived, or the teacher as it is."""
        if self.settings.predict_with == "student":
            return model
        taught = recall(memory) if self.settings.bank_size else teacher_of(memory)
        return {name: taught.get(name, tensor) for name, tensor in model.items()}

    # --- the loss -----------------------------------------------------------------------------------------

    def _terms(self, site: Place) -> list[Term]:
        """What is added to the task's loss, each from the student's and the teacher's output."""
        settings = self.settings
        terms: list[Term] = []
        if settings.output_weight:
            terms.append(lambda own, lesson: settings.output_weight * distillation(own.logits, lesson.logits))
        if settings.feature_weight:
            terms.append(self._features)
        if settings.contrast_weight and settings.contrast == "kl":
            terms.append(lambda own, _: settings.contrast_weight * symmetric_kl(*_branches(own)))
        elif settings.contrast_weight:
            terms.append(self._mutual_information(site))
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
            local_bank, global_bank = queue.content() or (None, None)
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

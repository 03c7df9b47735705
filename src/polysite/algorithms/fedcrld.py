"""FedCRLD: a shared encoder beside a local one, related by a contrast, and distillation from the site's history.

Qi et al., "Contrastive re-localization and history distillation in federated CMR segmentation", MICCAI 2022,
LNCS 13435:256-265.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import MAIN, Algorithm, Fit, Place, matching
from polysite.algorithms.features import features
from polysite.algorithms.memory import copy_into, within
from polysite.algorithms.momentum import TEACHER, follow, recall, remember, teacher
from polysite.algorithms.queue import enqueue, queued
from polysite.errors import ConfigError
from polysite.losses.contrastive import info_nce, sample_tokens, symmetric_kl
from polysite.losses.distillation import distillation, feature_mse
from polysite.seeds import torch_stream


class FedCRLD(Algorithm):
    """Only the global encoder is averaged; each site's momentum model (teacher) never leaves it.

    Added to the segmentation loss, with G and L the features of the global and the local encoder:
    ``0.2 · H(teacher, student) + MSE(G, G_T) + MSE(L, L_T) + weight · contrast(L, G)``. The teacher starts as a
    copy of the model, follows it after every step and lives through all rounds: what the server sends changes
    the model, never the teacher.

    ``repaired`` is meant for use; ``faithful`` is the release with the federation repaired.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "repaired": {
            "network": {"name": "fedcrld"},
            "training": {"learning_rate": 3e-4, "betas": [0.9, 0.999]},
        },
        "faithful": {
            "network": {
                "name": "fedcrld",
                "width": 64,
                "relocalization": True,
                "cross_roles": "global_query",
            },
            "algorithm": {"momentum": 0.5, "contrast_weight": 1.0, "keep_moments": False},
            "training": {
                "rounds": 400,
                "epochs_per_round": 5,
                "batch_size": 1,
                "learning_rate": 1e-6,
                "betas": [0.9, 0.999],
                "flat_rounds": 400,
            },
        },
    }

    class Settings(Algorithm.Settings):
        """Settings of the method; a term of weight 0 is neither computed nor added."""

        shared: tuple[str, ...] = Field(
            default=("segmenter.global_encoder.*",), description="patterns of names that are averaged"
        )
        weights: Literal["samples", "equal"] = "equal"
        contrast: Literal["kl", "infonce"] = Field(
            default="kl",
            description="between local and global features of a place: difference of both as distributions over "
            "channels, or a lower bound of their mutual information",
        )
        contrast_weight: float = Field(default=0.1, ge=0, description="of the contrast; 0: none")
        temperature: float = Field(default=0.1, gt=0, description="infonce: divides the cosines")
        n_tokens: int = Field(
            default=256, ge=2, description="infonce: random places of a volume that are compared"
        )
        n_negatives: int = Field(
            default=0, ge=0, description="infonce: places of earlier volumes, as the momentum model saw them"
        )
        distillation_weight: float = Field(
            default=0.2,
            ge=0,
            description="of the cross-entropy with the momentum model's prediction; 0: none",
        )
        feature_weight: float = Field(
            default=1.0, ge=0, description="of the squared differences from its features; 0: none"
        )
        momentum: float = Field(
            default=0.9, ge=0, le=1, description="what the momentum model keeps of itself in a step"
        )
        bank_size: int = Field(
            default=1,
            ge=0,
            description="above 1: after every round the momentum model becomes the mean of what it was at the "
            "ends of so many last rounds",
        )
        keep_moments: bool = Field(
            default=True, description="false: Adam begins anew in every round, as in the release"
        )
        predict_with: Literal["student", "teacher"] = Field(
            default="student", description="the trained model, or the momentum model"
        )

    settings: "FedCRLD.Settings"

    def shared(self, model: nn.Module) -> set[str]:
        """The global encoder."""
        names = matching(model, self.settings.shared)
        if not names:
            raise ConfigError(
                f"algorithm.shared: no tensor of the network matches {', '.join(self.settings.shared)!r}; "
                "fedcrld needs a network with a global encoder, for example network: {name: fedcrld}"
            )
        return names & super().shared(model)

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the method's terms, the teacher following every step."""
        settings = self.settings
        held = teacher(site.memory, model.state_dict()) if self._has_teacher() else {}
        stream = torch_stream(site.seed, "tokens")

        def guide(forward: Any) -> Mapping[str, Tensor]:
            return self._terms(forward, held, site.memory, stream)

        guided = settings.contrast_weight or settings.distillation_weight or settings.feature_weight
        fit(
            model,
            guide=guide if guided else None,
            after_step=(lambda student: follow(held, student.state_dict(), settings.momentum))
            if held
            else None,
            moments=MAIN if settings.keep_moments else None,
        )
        if held and settings.bank_size > 1:
            remember(site.memory, held, settings.bank_size)
            copy_into(held, recall(site.memory))
        return self.outgoing(model)

    def evaluated(self, memory: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The student, or the teacher once there is one."""
        return (self.settings.predict_with == "teacher" and within(memory, TEACHER)) or state

    def _has_teacher(self) -> bool:
        settings = self.settings
        distils = settings.distillation_weight > 0 or settings.feature_weight > 0
        return distils or self._has_queue() or settings.predict_with == "teacher"

    def _has_queue(self) -> bool:
        settings = self.settings
        return settings.contrast == "infonce" and settings.contrast_weight > 0 and settings.n_negatives > 0

    def _terms(
        self, forward: Any, held: Mapping[str, Tensor], memory: dict[str, Tensor], stream: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The weighted parts of the loss beside the segmentation's, by name."""
        settings, terms = self.settings, {}
        own = features(forward.output, "fedcrld", "global", "local")
        if settings.distillation_weight or settings.feature_weight or self._has_queue():
            past = forward.again(held)
        if settings.distillation_weight:
            difference = distillation(forward.output.logits, past.logits)
            terms["distillation"] = settings.distillation_weight * difference
        if settings.feature_weight:
            parts = [feature_mse(own[branch], past.features[branch]) for branch in ("global", "local")]
            terms["features"] = settings.feature_weight * (parts[0] + parts[1])
        if settings.contrast_weight and settings.contrast == "kl":
            terms["contrast"] = settings.contrast_weight * symmetric_kl(own["local"], own["global"])
        elif settings.contrast_weight:
            tokens = sample_tokens(own["local"], own["global"], settings.n_tokens, stream)
            banks = [queued(memory, branch, tokens[0].device) for branch in ("local", "global")]
            terms["contrast"] = settings.contrast_weight * info_nce(
                *tokens, temperature=settings.temperature, local_bank=banks[0], global_bank=banks[1]
            )
        if self._has_queue():
            seen = sample_tokens(past.features["local"], past.features["global"], settings.n_tokens, stream)
            enqueue(memory, "local", seen[0], settings.n_negatives)
            enqueue(memory, "global", seen[1], settings.n_negatives)
        return terms

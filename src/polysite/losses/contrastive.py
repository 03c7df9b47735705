"""How much local and global features of the same place say of one another.

Two forms: the difference between both as distributions over channels (the release's idea), and a lower
bound of their mutual information (what the paper's abstract names).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_kl(local_features: Tensor, global_features: Tensor) -> Tensor:
    """``½ [KL(sg G ‖ L) + KL(sg L ‖ G)]`` between the softmax over channels of each voxel, sg: no gradient.

    Zero for equal features. The gradient by L is ``½ (softmax L - softmax G)`` for each voxel, and by G its
    opposite: both move towards each other, each by its own half of the sum.

    Parameters
    ----------
    local_features, global_features : Tensor
        (batch, channel, z, x, y); the mean is over batch and voxels.
    """
    local_log = F.log_softmax(local_features.float(), dim=1)
    global_log = F.log_softmax(global_features.float(), dim=1)
    return (_kl(global_log.detach(), local_log) + _kl(local_log.detach(), global_log)) / 2


def _kl(p_log: Tensor, q_log: Tensor) -> Tensor:
    """``KL(P ‖ Q) = Σ P log(P / Q)`` over channels, mean over the rest."""
    return F.kl_div(q_log, p_log, reduction="none", log_target=True).sum(1).mean()


def sample_tokens(
    local_features: Tensor, global_features: Tensor, n_tokens: int, stream: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The features of the same random voxels in both, without repetition, in random order.

    Parameters
    ----------
    local_features, global_features : Tensor
        (batch, channel, z, x, y).
    n_tokens : int
        For each sample; all voxels if there are fewer.
    stream : torch.Generator
        Source of the random numbers.

    Returns
    -------
    tuple of Tensor
        Two of (batch, token, channel).
    """
    batch, _, *sizes = local_features.shape
    lottery = torch.rand(batch, *sizes, generator=stream, device=stream.device).flatten(1)
    places = lottery.argsort(1)[:, None, :n_tokens].to(local_features.device)
    return _at(places, local_features), _at(places, global_features)


def _at(places: Tensor, features: Tensor) -> Tensor:
    tokens = features.flatten(2)
    return tokens.gather(2, places.expand(-1, tokens.shape[1], -1)).transpose(1, 2)


def info_nce(
    local_tokens: Tensor,
    global_tokens: Tensor,
    *,
    temperature: float = 0.1,
    local_bank: Tensor | None = None,
    global_bank: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of finding a token's partner among N candidates, both ways, by cosine / temperature.

    ``log N - loss`` is a lower bound of the mutual information, never above log N: for candidates that are
    all alike the loss is log N (nothing known), for partners that are told apart from all others it tends
    to 0. N is the number of tokens, plus the bank's.

    Parameters
    ----------
    local_tokens, global_tokens : Tensor
        (batch, token, channel); tokens of one place are partners, a sample's other tokens negatives.
    temperature : float
        Above 0.
    local_bank, global_bank : Tensor, optional
        (n, channel): further negatives, for example tokens of earlier volumes as a momentum model sees
        them; no gradient. They must not hold a partner, or the bound breaks.

    References
    ----------
    Van den Oord et al., "Representation learning with contrastive predictive coding", 2018, equations 4
    and 9; the bank as in He et al., "Momentum contrast", CVPR 2020.
    """
    to_global = _find(local_tokens, global_tokens, global_bank, temperature)
    to_local = _find(global_tokens, local_tokens, local_bank, temperature)
    return (to_global + to_local) / 2


def _find(queries: Tensor, keys: Tensor, bank: Tensor | None, temperature: float) -> Tensor:
    queries, keys = F.normalize(queries.float(), dim=2), F.normalize(keys.float(), dim=2)
    scores = queries @ keys.transpose(1, 2)
    if bank is not None:
        others = F.normalize(bank.detach().float(), dim=1)
        scores = torch.cat([scores, queries @ others.t()], dim=2)
    partners = torch.arange(keys.shape[1], device=keys.device).expand(len(keys), -1)
    return F.cross_entropy(scores.flatten(0, 1) / temperature, partners.flatten())

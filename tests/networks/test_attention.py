"""Attention between voxels: the formula, the token layout, and what re-localization passes on."""

import math

import pytest
import torch

from polysite.networks.attention import Attention, attend
from polysite.networks.initialise import initialise
from polysite.networks.relocalization import Relocalization

SIZE = (3, 4, 5)
N_VOXELS = math.prod(SIZE)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed))


def shuffled(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The voxels of (batch, channel, z, x, y) in another order."""
    return x.flatten(2)[:, :, order].reshape(x.shape)


def relocalization(cross_roles: str = "local_query", channels: int = 16) -> Relocalization:
    module = Relocalization(channels, cross_roles)
    module.initialisation = "torch"
    initialise(module, stream(3))
    return module


def test_attend_is_the_formula_voxel_by_voxel():
    query, key, value = (noise(2, 6, *SIZE, seed=seed) for seed in range(3))
    result = attend(query, key, value).flatten(2)
    for sample in range(2):
        q, k, v = (x[sample].flatten(1).t().tolist() for x in (query, key, value))
        for voxel in (0, 17, N_VOXELS - 1):
            scores = [
                math.exp(sum(a * b for a, b in zip(q[voxel], other, strict=True)) / 6**0.5) for other in k
            ]
            expected = [
                sum(score * other[channel] for score, other in zip(scores, v, strict=True)) / sum(scores)
                for channel in range(6)
            ]
            assert result[sample, :, voxel].tolist() == pytest.approx(expected, abs=1e-5)


def test_query_and_values_may_differ_in_size():
    key, value = noise(2, 6, 1, 2, 3), noise(2, 6, 1, 2, 3, seed=1)
    assert attend(noise(2, 6, *SIZE), key, value).shape == (2, 6, *SIZE)


def test_permuting_the_voxels_permutes_the_output():
    x, order = noise(2, 6, *SIZE), torch.randperm(N_VOXELS, generator=stream())
    module = Attention(6)
    torch.testing.assert_close(module(shuffled(x, order), shuffled(x, order)), shuffled(module(x, x), order))


def test_permuting_only_the_answers_changes_nothing():
    asks, answers = noise(1, 6, *SIZE), noise(1, 6, *SIZE, seed=1)
    module, order = Attention(6), torch.randperm(N_VOXELS, generator=stream())
    torch.testing.assert_close(module(asks, shuffled(answers, order)), module(asks, answers))


@pytest.mark.parametrize("cross_roles", ["local_query", "global_query"])
def test_permuting_the_voxels_permutes_all_of_relocalization_but_its_convolutions(cross_roles):
    module = relocalization(cross_roles)
    for conv in (module.self_conv, module.cross_conv):
        torch.nn.init.zeros_(conv.weight)
    local, shared = noise(2, 16, *SIZE), noise(2, 16, *SIZE, seed=1)
    order = torch.randperm(N_VOXELS, generator=stream())
    expected = module(local, shared)
    if cross_roles == "global_query":  # who asks decides where an answer goes
        both = module(shuffled(local, order), shuffled(shared, order))
        torch.testing.assert_close(both, shuffled(expected, order), atol=1e-5, rtol=0)
    else:  # who answers may stand anywhere
        torch.testing.assert_close(
            module(shuffled(local, order), shared), shuffled(expected, order), atol=1e-5, rtol=0
        )


def test_global_features_are_passed_on_only_where_they_answer():
    """If all local voxels are alike, whoever asks among them gets the same: nothing of G can come through."""
    local = noise(1, 16, 1, 1, 1).expand(1, 16, *SIZE)
    change = {}
    for cross_roles in ("local_query", "global_query"):
        module = relocalization(cross_roles)
        module.self_conv = torch.nn.Identity()  # borders would tell voxels apart
        one, other = (module(local, noise(1, 16, *SIZE, seed=seed)) for seed in (1, 2))
        change[cross_roles] = (one - other).abs().max().item()
    assert change["global_query"] < 1e-5
    assert change["local_query"] > 1e-3


def test_the_first_half_is_the_sites_own():
    module = relocalization()
    local = noise(1, 16, *SIZE)
    one, other = (module(local, noise(1, 16, *SIZE, seed=seed)) for seed in (1, 2))
    assert torch.equal(one[:, :16], other[:, :16])
    assert not torch.equal(one[:, 16:], other[:, 16:])


def test_one_norm_serves_four_places():
    names = [name for name, _ in relocalization().named_parameters() if "norm" in name]
    assert names == ["norm.weight", "norm.bias"]

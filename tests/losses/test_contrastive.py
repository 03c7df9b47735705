"""Both forms of the contrastive term as identities: zeros, bounds, gradients, and the mutual information."""

import math

import pytest
import torch

from polysite.losses.contrastive import info_nce, sample_tokens, symmetric_kl

SHAPE = (2, 6, 2, 3, 4)
N_VOXELS = 2 * 24


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed))


# --- divergence ---------------------------------------------------------------------------------------------


def test_kl_of_worked_numbers():
    local = torch.tensor([0.5, 0.5]).log().reshape(1, 2, 1, 1, 1)
    shared = torch.tensor([0.9, 0.1]).log().reshape(1, 2, 1, 1, 1)
    there = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    back = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert symmetric_kl(local, shared).item() == pytest.approx((there + back) / 2, abs=1e-6)


def test_kl_is_zero_for_equal_features_symmetric_and_positive_else():
    local, shared = noise(*SHAPE), noise(*SHAPE, seed=1)
    assert symmetric_kl(local, local).item() == pytest.approx(0, abs=1e-7)
    assert symmetric_kl(local, shared) > 0.1
    torch.testing.assert_close(symmetric_kl(local, shared), symmetric_kl(shared, local))
    shifted = local + noise(2, 1, 2, 3, 4)  # the same for all channels of a voxel
    assert symmetric_kl(local, shifted).item() == pytest.approx(0, abs=1e-6)


def test_kl_looks_at_the_channels_of_a_voxel_not_at_its_neighbours():
    local, shared = noise(*SHAPE), noise(*SHAPE, seed=1)
    order = torch.randperm(24, generator=stream(2))
    moved = [x.flatten(2)[:, :, order].reshape(SHAPE) for x in (local, shared)]
    torch.testing.assert_close(symmetric_kl(*moved), symmetric_kl(local, shared))


def test_each_side_of_the_kl_gets_the_gradient_of_one_half():
    """With both sides free the gradient would not be the difference of the distributions."""
    local, shared = noise(*SHAPE).requires_grad_(), noise(*SHAPE, seed=1).requires_grad_()
    symmetric_kl(local, shared).backward()
    pull = (local.detach().softmax(1) - shared.detach().softmax(1)) / 2 / N_VOXELS
    torch.testing.assert_close(local.grad, pull)
    torch.testing.assert_close(shared.grad, -pull)


# --- information --------------------------------------------------------------------------------------------


def test_info_nce_of_worked_numbers():
    """Two tokens, orthogonal keys, cosines 1 and 0, temperature 1: log(1 + 1/e) each way."""
    tokens = torch.eye(2)[None]
    loss = info_nce(tokens, 3 * tokens, temperature=1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)
    bank = torch.tensor(
        [[0.0, -5.0], [-1.0, 0.0], [-1.0, 0.0]]
    )  # cosines 0, -1, -1 for one token, -1, 0, 0 for the other
    loss = info_nce(tokens, tokens, temperature=1.0, local_bank=bank, global_bank=bank)
    first = math.log((math.e + 2 + 2 * math.exp(-1)) / math.e)
    second = math.log((math.e + 3 + math.exp(-1)) / math.e)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_info_nce_is_zero_for_equal_features_that_differ_between_voxels():
    tokens = torch.eye(16)[None].repeat(2, 1, 1)
    assert info_nce(tokens, tokens, temperature=0.01).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n_bank", [0, 5])
def test_info_nce_is_log_n_where_nothing_can_be_told_apart(n_bank):
    tokens = torch.ones(2, 11, 4)
    bank = torch.ones(n_bank, 4) if n_bank else None
    loss = info_nce(tokens, tokens, local_bank=bank, global_bank=bank)
    assert loss.item() == pytest.approx(math.log(11 + n_bank), abs=1e-5)


def test_the_bound_stays_below_the_mutual_information_and_grows_with_it():
    """Pairs on the circle with a common angle and von Mises noise, whose information is known.

    I = log(2 pi) - h(noise), by numerical integration; independent pairs have none.
    """
    n = 512
    bounds, truths = [], []
    for kappa in (0.0, 2.0, 8.0):
        angle = 2 * math.pi * torch.rand(4, n, generator=stream(1))
        grid = torch.linspace(-math.pi, math.pi, 20_001, dtype=torch.float64)
        density = torch.exp(kappa * (grid.cos() - 1))
        density /= torch.trapezoid(density, grid)
        entropy = -torch.trapezoid(density * density.log(), grid)
        chances = torch.cumsum(density, 0) / density.sum()
        uniform = torch.rand(4, n, generator=stream(2), dtype=torch.float64)
        turn = grid[torch.searchsorted(chances, uniform).clamp(max=len(grid) - 1)].float()
        pair = [torch.stack([a.cos(), a.sin()], 2) for a in (angle, angle + turn)]
        bounds.append(math.log(n) - info_nce(*pair, temperature=1 / max(kappa, 1)).item())
        truths.append(math.log(2 * math.pi) - entropy.item())
    assert bounds[0] < 0.02
    assert bounds[0] < bounds[1] < bounds[2] < math.log(n)
    for bound, truth in zip(bounds, truths, strict=True):
        assert bound < truth + 0.05
    assert bounds[2] == pytest.approx(truths[2], abs=0.1)  # cosine · kappa is the optimal critic here


def test_a_step_down_info_nce_brings_partners_together_and_strangers_apart():
    local, shared = noise(1, 8, 5).requires_grad_(), noise(1, 8, 5, seed=1).requires_grad_()

    def cosines() -> torch.Tensor:
        return torch.nn.functional.cosine_similarity(local[0, :, None], shared[0, None], dim=2)

    before = cosines().detach()
    info_nce(local, shared, temperature=1.0).backward()
    with torch.no_grad():
        local -= 0.5 * local.grad
        shared -= 0.5 * shared.grad
    change = cosines().detach() - before
    assert change.diagonal().mean() > 0.01
    assert change[~torch.eye(8, dtype=torch.bool)].mean() < 0


def test_the_bank_gets_no_gradient():
    bank = noise(3, 5, seed=2).requires_grad_()
    tokens = noise(1, 8, 5).requires_grad_()
    info_nce(tokens, noise(1, 8, 5, seed=1), local_bank=bank, global_bank=bank).backward()
    assert bank.grad is None
    assert tokens.grad.abs().max() > 0


def test_negatives_come_from_the_own_volume():
    local, shared = noise(2, 8, 5), noise(2, 8, 5, seed=1)
    alone = [info_nce(local[i : i + 1], shared[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(info_nce(local, shared), sum(alone) / 2)


def test_sampled_tokens_are_the_same_voxels_of_both_without_repetition():
    places = torch.arange(24.0).reshape(1, 1, 2, 3, 4).repeat(2, 1, 1, 1, 1)
    local = torch.cat([places, 10 * places], 1)
    one, other = sample_tokens(local, -local, 7, stream())
    assert one.shape == other.shape == (2, 7, 2)
    assert torch.equal(one, -other)
    assert torch.equal(one[..., 1], 10 * one[..., 0])
    assert all(len(sample[:, 0].unique()) == 7 for sample in one)
    assert not torch.equal(one[0], one[1])
    again, _ = sample_tokens(local, -local, 7, stream())
    assert torch.equal(again, one)
    every, _ = sample_tokens(local, local, 100, stream())
    assert every[0, :, 0].sort().values.tolist() == list(range(24))

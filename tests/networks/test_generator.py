"""The generator: its size, its codes, and that the fast computation is the literal one."""

from fnmatch import fnmatchcase

import pytest
import torch
from pydantic import ValidationError

from polysite.networks.generator import Generator
from polysite.networks.initialise import initialise

SHARED = ("res6.*", "res7.*", "res8.*", "res9.*", "up1.*", "up2.*", "out.*", "mapper.*")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def full_size() -> Generator:
    with torch.device("meta"):
        return Generator(Generator.Settings(), n_sites=4, n_contrasts=4)


def test_parameter_counts_are_the_papers(full_size):
    assert count(full_size) == 15_986_817
    assert count(full_size.mapper) == 1_319_936
    assert count(full_size.personalization) == 3_296_000
    assert count(full_size) - count(full_size.mapper) - count(full_size.personalization) == 11_370_881


def test_the_papers_shared_part_has_its_number_of_values(full_size):
    values = sum(
        tensor.numel()
        for name, tensor in full_size.state_dict().items()
        if any(fnmatchcase(name, pattern) for pattern in SHARED)
    )
    assert values == 6_419_275


def test_the_plain_backbone_has_its_number_of_parameters():
    with torch.device("meta"):
        network = Generator(Generator.Settings(conditioning="none"), n_sites=4, n_contrasts=4)
    assert count(network) == 11_370_881


def test_every_name_belongs_to_one_stage_or_to_conditioning(full_size):
    heads = [*full_size.stages, "out", "mapper", "personalization"]
    assert len(heads) == 3 + 9 + 2 + 3
    for name in full_size.state_dict():
        assert sum(name.startswith(head + ".") for head in heads) == 1, name
    assert set(full_size.personalization) == set(full_size.stages)


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("conditioning", ["latent", "none"])
def test_fast_equals_literal_forward_and_backward(make, plain_class, slices, codes, norm, conditioning):
    settings = {"norm": norm, "conditioning": conditioning, "dropout": 0.0}
    fast, plain = make(**settings), make(network_class=plain_class, **settings)
    weights = torch.rand(slices.shape, generator=torch.Generator().manual_seed(1))
    outputs, gradients = [], []
    for network in (fast.double(), plain.double()):
        image = network(slices.double(), *codes)
        (image * weights).sum().backward()
        outputs.append(image.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-10, rtol=0)
    scale = gradients[1].abs().max()
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, atol=1e-10, rtol=0)


def test_fast_equals_literal_in_float32(make, plain_class, slices, codes):
    fast, plain = make(dropout=0.0), make(network_class=plain_class, dropout=0.0)
    torch.testing.assert_close(fast(slices, *codes), plain(slices, *codes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_is_float32_within_its_tolerance(make, plain_class, slices, codes, training):
    fast, plain = make(dropout=0.0), make(network_class=plain_class, dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        rough = fast.train(training)(slices, *codes)
    exact = plain.train(training)(slices, *codes)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean()


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_a_batch_is_its_samples_one_by_one(make, slices, codes, norm):
    network = make(norm=norm).eval()
    together = network(slices, *codes)
    alone = [network(slices[i : i + 1], *(code[i : i + 1] for code in codes)) for i in range(len(slices))]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_norms_without_statistics_keep_samples_apart_in_training_too(make, slices, codes, norm):
    network = make(norm=norm, dropout=0.0).train()
    together = network(slices, *codes)
    first = network(slices[:1], *(code[:1] for code in codes))
    torch.testing.assert_close(together[:1], first, atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["site", "source", "target"])
@pytest.mark.parametrize("mapper", ["equalised", "plain"])
def test_every_code_changes_the_untrained_output(make, slices, codes, which, mapper):
    network = make(mapper=mapper).eval()
    others = [(code + 1) % 3 if place == which else code for place, code in enumerate(codes)]
    assert (network(slices, *codes) - network(slices, *others)).abs().max() > 0.01


@pytest.mark.parametrize("which", [0, 1, 2], ids=["site", "source", "target"])
def test_the_released_initialisation_makes_codes_dead(make, slices, codes, which):
    network = make(initialisation="released").eval()
    others = [(code + 1) % 3 if place == which else code for place, code in enumerate(codes)]
    assert (network(slices, *codes) - network(slices, *others)).abs().max() < 1e-6


def test_without_conditioning_codes_are_ignored(make, slices, codes):
    network = make(conditioning="none").eval()
    assert not hasattr(network, "mapper")
    assert not hasattr(network, "personalization")
    torch.testing.assert_close(network(slices, *codes), network(slices, *codes[::-1]), atol=0, rtol=0)


def test_two_predictions_are_equal_and_training_is_random(make, slices, codes):
    network = make(dropout=0.5)
    assert not torch.equal(network(slices, *codes), network(slices, *codes))
    network.eval()
    assert torch.equal(network(slices, *codes), network(slices, *codes))


def test_evaluation_leaves_statistics_alone(make, slices, codes):
    network = make().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network(slices, *codes)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_gradients_reach_every_layer_of_mapper_and_stin(make, slices, codes):
    network = make()
    network(slices, *codes).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith("mapper") or ".stin." in name:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("settings", [{"width": 1, "latent": 1, "n_blocks": 0}, {"width": 3, "n_blocks": 1}])
def test_tiny_and_odd_widths_work(make, slices, codes, settings):
    for norm in ("batch", "instance", "group"):
        assert make(norm=norm, **settings)(slices, *codes).shape == slices.shape


@pytest.mark.parametrize("size", [(30, 32), (32, 33), (4, 32), (0, 8)])
def test_a_size_that_does_not_fit_is_an_error_that_says_so(make, size):
    zero = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"{size[0]}×{size[1]}.*multiples of 4"):
        make()(torch.zeros(1, 1, *size), zero, zero, zero)


def test_smallest_size_works(make, codes):
    assert make()(torch.rand(4, 1, 8, 8), *codes).shape == (4, 1, 8, 8)


def test_settings_refuse_what_they_do_not_know():
    for wrong in ({"wdith": 8}, {"norm": "layer"}, {"dropout": 1.0}, {"width": 0}, {"mapper_depth": 0}):
        with pytest.raises(ValidationError):
            Generator.Settings(**wrong)


def _train_two_tasks(initialisation: str) -> tuple[float, float]:
    """Mean error after learning x -> x for one target code and x -> -x for the other; the error of a constant 0."""
    stream = torch.Generator().manual_seed(3)
    settings = Generator.Settings(width=4, n_blocks=1, latent=16, dropout=0, initialisation=initialisation)
    network = Generator(settings, n_sites=1, n_contrasts=2)
    initialise(network, stream)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3, betas=(0.5, 0.999))
    half = torch.rand(2, 1, 16, 16, generator=stream) * 2 - 1
    source, zero, target_code = (
        half.repeat(2, 1, 1, 1),
        torch.zeros(4, dtype=torch.int64),
        torch.tensor([0, 0, 1, 1]),
    )
    target = torch.cat([half, -half])
    for _ in range(60):
        loss = (network(source, zero, zero, target_code) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item(), target.abs().mean().item()


def test_one_source_learns_two_targets():
    error, error_of_zero = _train_two_tasks("intended")
    assert error < 0.75 * error_of_zero


def test_dead_codes_cannot_learn_two_targets():
    # whatever one output g is made for both, (|g - x| + |g + x|) / 2 is at least |x|
    error, error_of_zero = _train_two_tasks("released")
    assert error >= 0.999 * error_of_zero

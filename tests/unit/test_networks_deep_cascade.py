"""The cascade against its equations written in numpy, and against samples within its bounds."""

import math

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifft2, ifftshift
from torch import nn

from robustbench_med import bound
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.deep_cascade import DeepCascade, Size, deep_cascade
from robustbench_med.physics.coils import forward, sensitivities
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

GRID = (16, 12)
TINY = Size(2, 3, 5)


def built(size=TINY, noise_weight=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DeepCascade(size, noise_weight).eval()


def case(coils=1, cases=2, seed=0):
    """k-space as real channels, its context, and the images that it is of."""
    generator = torch.Generator().manual_seed(seed)
    image = to_complex(torch.randn(cases, 2, *GRID, generator=generator))
    lines = cartesian_mask(GRID[0], 2, 4, generator).float()
    context = {"mask": lines[None, None, :, None].repeat(cases, 1, 1, GRID[1])}
    maps = None
    if coils > 1:
        maps = sensitivities(coils, GRID, 15.0).expand(cases, -1, -1, -1)
        context["maps"] = to_channels(maps)
    kspace = forward(image[:, 0], maps, context["mask"])
    return to_channels(kspace), context, image


def transform(image):
    return fftshift(fft2(ifftshift(image, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


def back(kspace):
    return fftshift(ifft2(ifftshift(kspace, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_the_papers_parameters_and_differ_in_depth_and_widths_only():
    with torch.device("meta"):
        full, small = build("networks", "deep_cascade"), deep_cascade(preset="small", in_channels=8)
    assert parameters(full) == 565_770
    assert parameters(small) == 33_918
    assert {type(m) for m in full.modules()} == {type(m) for m in small.modules()}
    assert [len(block) for block in full.blocks] == [9] * 5


def test_weights_start_he_normal_and_biases_zero():
    for name, tensor in built(Size(2, 4, 24)).named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / tensor[0].numel()), rel=0.15)


@pytest.mark.parametrize("noise_weight", [None, 0.5, 20.0])
def test_one_coil_follows_the_papers_equations(noise_weight):
    network = built(noise_weight=noise_weight)
    kspace, context, _ = case()
    there = context["mask"][:, 0].numpy()
    first = to_complex(kspace)[:, 0].numpy()
    seen = back(first)
    for block in network.blocks:
        with torch.no_grad():
            pair = torch.from_numpy(np.stack([seen.real, seen.imag], axis=1)).float()
            pair = (pair + block(pair)).double().numpy()
        own = transform(pair[:, 0] + 1j * pair[:, 1])
        both = (own + (noise_weight or 0) * first) / (1 + (noise_weight or 0))
        seen = back((1 - there) * own + there * (first if noise_weight is None else both))
    output = to_complex(network(kspace, context).detach())[:, 0].numpy()
    np.testing.assert_allclose(output, seen, atol=2e-5)


def test_noiseless_kspace_is_untouched_where_it_was_measured():
    kspace, context, _ = case()
    output = built()(kspace, context)
    again = to_channels(context["mask"] * fft2c(to_complex(output)))
    torch.testing.assert_close(again, kspace, atol=1e-5, rtol=0)
    assert (output - build("networks", "zero_filled")(kspace, context)).abs().max() > 0.1


def test_what_was_not_measured_is_not_looked_at():
    kspace, context, _ = case(coils=3)
    altered = kspace + (1 - context["mask"])
    torch.testing.assert_close(built()(altered, context), built()(kspace, context))


def test_one_uniform_coil_with_maps_is_one_coil_without():
    kspace, context, _ = case()
    ones = to_channels(torch.ones(2, 1, *GRID, dtype=torch.complex64))
    torch.testing.assert_close(built()(kspace, context | {"maps": ones}), built()(kspace, context))


def test_several_coils_and_every_line_give_the_true_image():
    _, context, image = case(coils=4)
    full = {**context, "mask": torch.ones_like(context["mask"])}
    kspace = forward(image[:, 0], to_complex(context["maps"]), full["mask"])
    output = built()(to_channels(kspace), full)
    torch.testing.assert_close(output, to_channels(image), atol=1e-5, rtol=0)


def test_several_coils_come_closer_to_the_measurement_in_every_step():
    kspace, context, _ = case(coils=4)
    network = built(Size(1, 3, 5))
    start = build("networks", "zero_filled")(kspace, context)

    def distance(image):
        seen = forward(to_complex(image)[:, 0], to_complex(context["maps"]), context["mask"])
        return (seen - to_complex(kspace)).flatten(1).norm(dim=1)

    before = start + network.blocks[0](start)
    assert (distance(network(kspace, context)) < distance(before)).all()


def test_a_case_is_reconstructed_the_same_in_any_batch():
    kspace, context, _ = case(coils=3)
    alone = built()(kspace[1:], {name: value[1:] for name, value in context.items()})
    torch.testing.assert_close(built()(kspace, context)[1:], alone)


def test_gradients_reach_the_measurement_and_every_weight():
    kspace, context, _ = case(coils=2)
    network = built()
    network(kspace.requires_grad_(), context).square().sum().backward()
    assert (kspace.grad * (1 - context["mask"]) == 0).all()
    assert kspace.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("noise_weight", [None, 3.0])
def test_the_fixed_form_computes_the_same(noise_weight):
    network = built(noise_weight=noise_weight)
    kspace, context, _ = case(cases=1)
    state = torch.random.get_rng_state()
    fixed = network.fixed(context["mask"][0])
    assert torch.equal(torch.random.get_rng_state(), state)
    output = network(kspace, context)
    torch.testing.assert_close(fixed(kspace), output, atol=1e-5, rtol=0)
    torch.testing.assert_close(fixed(kspace.expand(3, -1, -1, -1))[2:], output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cascades", [1, 2])
def test_the_fixed_form_can_be_bounded_and_no_sample_escapes(cascades):
    network = built(Size(cascades, 3, 4))
    generator = torch.Generator().manual_seed(0)
    lines = cartesian_mask(16, 2, 4, generator).float()
    mask = lines[None, :, None].expand(1, 16, 16)
    image = torch.randn(1, 2, 16, 16, generator=generator)
    kspace = to_channels(mask * fft2c(to_complex(image)))
    room = 0.01 * mask
    fixed = network.fixed(mask)
    rows = torch.eye(512)[torch.arange(100, 420, 40)]
    lower, upper = bound(fixed, kspace - room, kspace + room, rows, method="crown")
    width, _ = bound(fixed, kspace - room, kspace + room, rows, method="ibp")
    assert (lower > width).all()
    noise = 2 * torch.rand(400, 2, 16, 16, generator=generator) - 1
    inside = kspace + room * torch.cat([noise[:200], noise[200:].sign()])
    context = {"mask": mask.expand(400, 1, 16, 16)}
    with torch.no_grad():
        found = network(inside, context).flatten(1) @ rows.T
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()
    # Sampling finds a good part of what the bounds allow: they are not merely true.
    assert ((found.amax(0) - found.amin(0)) / (upper - lower)).min() > 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tiny"}, "full, small, got 'tiny'"),
        ({"in_channels": 3}, "even, two for each coil"),
        ({"in_channels": 0}, "even, two for each coil"),
        ({"classes": 1}, "classes 2"),
        ({"noise_weight": 0.0}, "noise_weight must be finite and above 0"),
        ({"noise_weight": math.inf}, "noise_weight must be finite"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        deep_cascade(**settings)


@pytest.mark.parametrize("name", ["deep_cascade", "zero_filled", "total_variation"])
@pytest.mark.parametrize(
    ("coils", "change", "message"),
    [
        (1, {"mask": None}, "needs mask in the case's context, which has nothing"),
        (
            2,
            {"maps": None},
            "needs mask and maps for 2 coils in the case's context, which has mask",
        ),
        (
            1,
            {"mask": torch.ones(2, 1, 4, 4)},
            r"expected mask \(2, 1, 16, 12\), got \(2, 1, 4, 4\)",
        ),
        (2, {"maps": torch.ones(2, 2, *GRID)}, r"expected maps \(2, 4, 16, 12\)"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(name, coils, change, message):
    kspace, context, _ = case(coils)
    context = {key: value for key, value in {**context, **change}.items() if value is not None}
    with pytest.raises(InputError, match=f"{name}: {message}"):
        build("networks", name)(kspace, context)


def test_kspace_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"expected k-space \(b, 2 c, h, w\)"):
        built()(torch.ones(1, 2, 4), {})


@pytest.mark.parametrize("mask", [torch.eye(4)[None], torch.ones(4, 4), torch.ones(2, 4, 4)])
def test_only_whole_rows_of_one_coil_can_be_fixed(mask):
    with pytest.raises(InputError, match="constant along each row"):
        built().fixed(mask)


def test_the_noise_weight_is_part_of_what_the_network_is():
    assert repr(built()) != repr(built(noise_weight=2.0))
    assert isinstance(built(), nn.Module)

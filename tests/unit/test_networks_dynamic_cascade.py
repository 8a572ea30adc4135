"""Data sharing against loops over frames, and the cascade against its layers in numpy."""

import math

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifft2, ifftshift
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.deep_cascade import Size
from robustbench_med.networks.dynamic_cascade import (
    DynamicCascade,
    SeriesConvolution,
    SharingSize,
    dynamic_cascade,
)
from robustbench_med.networks.sharing import fill_estimated, fill_measured, window_sums
from robustbench_med.physics.coils import adjoint, forward, sensitivities
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

AXES = (-2, -1)
GRID = (16, 12)
FRAMES = 5
TINY = SharingSize(Size(2, 3, 4), (0, 2))


def built(size=TINY, noise_weight=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DynamicCascade(size, noise_weight).eval()


def masks(cases=2, frames=FRAMES, acceleration=2, centre=4):
    stream = torch.Generator().manual_seed(3)
    lines = [cartesian_mask(GRID[0], acceleration, centre, stream) for _ in range(cases * frames)]
    return torch.stack(lines).float().view(cases, 1, frames, GRID[0], 1).repeat(1, 1, 1, 1, GRID[1])


def case(coils=1, cases=2):
    """k-space `(b, 2 c, t, h, w)`, its context, and the images that it is of."""
    stream = torch.Generator().manual_seed(0)
    image = torch.randn(cases, FRAMES, *GRID, dtype=torch.complex64, generator=stream)
    context, maps = {"mask": masks(cases)}, None
    if coils > 1:
        maps = sensitivities(coils, GRID, 15.0)[None, :, None].repeat(cases, 1, 1, 1, 1)
        context["maps"] = to_channels(maps)
    return to_channels(forward(image, maps, context["mask"])), context, image


def transform(kind, values):
    return fftshift(kind(ifftshift(values, axes=AXES), norm="ortho"), axes=AXES)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_the_papers_parameters_and_differ_in_depth_widths_and_distances_only():
    with torch.device("meta"):
        full, small = build("networks", "dynamic_cascade"), dynamic_cascade(preset="small")
        fewer = dynamic_cascade(preset="small", distances=[0, 1, 2], in_channels=8)
    assert parameters(full) == 3_562_260
    assert parameters(small) == 57_174
    assert parameters(fewer) == 54_582
    assert {type(m) for m in full.modules()} == {type(m) for m in small.modules()}
    assert full.blocks[0][0].in_channels == 12


def test_the_full_size_runs_forward_and_backward_on_the_papers_strips():
    with torch.device("meta"):
        network = dynamic_cascade()
        kspace, mask = torch.empty(1, 2, 30, 256, 32), torch.empty(1, 1, 30, 256, 32)
        output = network(kspace, {"mask": mask})
        output.square().sum().backward()
    assert output.shape == (1, 2, 30, 256, 32)
    assert all(parameter.grad.shape == parameter.shape for parameter in network.parameters())


def test_weights_start_he_normal_and_biases_zero():
    for name, tensor in built(SharingSize(Size(2, 4, 16), (0, 1))).named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / tensor[0].numel()), rel=0.15)


@pytest.mark.parametrize("distance", [0, 1, 2, 4])
def test_sharing_is_its_sums_written_with_loops(distance):
    kspace, mask = to_complex(case()[0]), masks()
    estimate = torch.randn(kspace.shape, dtype=torch.complex64)
    first = fill_measured(kspace, mask, [distance])[0].numpy()
    later = fill_estimated(estimate, mask, [distance])[0].numpy()
    for place in np.ndindex(2, FRAMES, GRID[0]):
        number, frame, line = place
        window = [(frame + step) % FRAMES for step in range(-distance, distance + 1)]
        measured = [t for t in window if mask[number, 0, t, line, 0] == 1]
        if frame in measured:
            shared, averaged = (each[number, 0, frame, line] for each in (kspace, estimate))
        else:
            shared = sum(kspace[number, 0, t, line] for t in measured) / max(len(measured), 1)
            averaged = sum(estimate[number, 0, t, line] for t in window) / len(window)
        np.testing.assert_allclose(first[number, 0, frame, line], shared, atol=1e-6)
        np.testing.assert_allclose(later[number, 0, frame, line], averaged, atol=1e-6)


def test_a_still_image_is_recovered_exactly_where_its_neighbours_have_every_line():
    image = torch.randn(1, 1, 1, *GRID, dtype=torch.complex64).expand(-1, -1, FRAMES, -1, -1)
    # Frame t measures lines t, t + 5, ...; with two neighbours on either side that is all.
    turn = (torch.arange(GRID[0])[None] - torch.arange(FRAMES)[:, None]) % FRAMES == 0
    mask = turn.float()[None, None, :, :, None].repeat(1, 1, 1, 1, GRID[1])
    kspace = mask * fft2c(image)
    near, wide = fill_measured(kspace, mask, [1, 2])
    torch.testing.assert_close(ifft2c(wide), image)
    assert (ifft2c(near) - image).abs().max() > 0.1
    estimated = fill_estimated(fft2c(image), mask, [2])[0]
    torch.testing.assert_close(ifft2c(estimated), image)


@pytest.mark.parametrize("distances", [[0], [3, 1], [0, 1, 2, 3, 4]])
def test_acquired_lines_are_the_frames_own_and_frames_go_round(distances):
    kspace, mask = to_complex(case()[0]), masks()
    for fill in (fill_measured, fill_estimated):
        found = fill(kspace, mask, distances)
        assert len(found) == len(distances)
        turned = fill(kspace.roll(2, -3), mask.roll(2, -3), distances)
        for one, other in zip(found, turned, strict=True):
            assert torch.equal(one * mask, kspace * mask)
            torch.testing.assert_close(other, one.roll(2, -3))


def test_a_window_longer_than_the_series_counts_frames_twice():
    values = torch.arange(3.0).view(1, 1, 3, 1, 1)
    assert window_sums(values, [2])[0].flatten().tolist() == [3 + 3, 3 + 2, 3 + 1]


@pytest.mark.parametrize("coils", [1, 3])
def test_sharing_on_a_strip_of_the_readout_is_the_strip_of_the_sharing(coils):
    kspace, context, _ = case(coils)
    maps = to_complex(context["maps"]) if coils > 1 else None
    mask = context["mask"]
    across = torch.fft.ifft(torch.fft.ifftshift(to_complex(kspace), dim=-1), norm="ortho")
    columns = torch.fft.ifftshift(torch.fft.fftshift(across, dim=-1)[..., 4:8], dim=-1)
    strip = torch.fft.fftshift(torch.fft.fft(columns, norm="ortho"), dim=-1)

    def images(kspace, maps, mask):
        return [
            adjoint(each, maps, torch.ones_like(mask))
            for each in fill_measured(kspace, mask, [1, 3])
        ]

    cut = images(strip, None if maps is None else maps[..., 4:8], mask[..., 4:8])
    for one, other in zip(cut, images(to_complex(kspace), maps, mask), strict=True):
        torch.testing.assert_close(one, other[..., 4:8], atol=1e-5, rtol=0)


def test_the_convolution_of_stacked_frames_is_that_of_three_axes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution = SeriesConvolution(3, 5, kernel_size=3, padding=1).double()
    series = torch.randn(2, 3, 4, 6, 7, dtype=torch.float64, requires_grad=True)
    found = convolution(series)
    expected = F.conv3d(series, convolution.weight, convolution.bias, padding=1)
    torch.testing.assert_close(found, expected)
    slopes = torch.autograd.grad(found.square().sum(), [series, convolution.weight])
    others = torch.autograd.grad(expected.square().sum(), [series, convolution.weight])
    torch.testing.assert_close(slopes, others)


@pytest.mark.parametrize("noise_weight", [None, 0.5])
def test_one_coil_follows_the_papers_layers(noise_weight):
    network = built(noise_weight=noise_weight)
    kspace, context, _ = case()
    there = context["mask"][:, 0].numpy()
    first = to_complex(kspace)[:, 0].numpy()
    seen = transform(ifft2, first)
    for number, block in enumerate(network.blocks):
        own = first if number == 0 else transform(fft2, seen)
        copies = [seen]
        for distance in (0, 2):
            steps = range(-distance, distance + 1)
            total = sum(np.roll(own, step, axis=1) for step in steps)
            count = sum(np.roll(there, step, axis=1) for step in steps)
            mean = total / (np.maximum(count, 1) if number == 0 else 2 * distance + 1)
            copies.append(transform(ifft2, there * own + (1 - there) * mean))
        maps = torch.from_numpy(np.stack([p for c in copies for p in (c.real, c.imag)], axis=1))
        maps = maps.float()
        weights = list(block.parameters())
        for layer in range(3):
            maps = F.conv3d(maps, weights[2 * layer], weights[2 * layer + 1], padding=1)
            maps = maps.clamp(min=0) if layer < 2 else maps
        change = maps.detach().double().numpy()
        own = transform(fft2, seen + change[:, 0] + 1j * change[:, 1])
        both = (own + (noise_weight or 0) * first) / (1 + (noise_weight or 0))
        own = (1 - there) * own + there * (first if noise_weight is None else both)
        seen = transform(ifft2, own)
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
    ones = to_channels(torch.ones(2, 1, 1, *GRID, dtype=torch.complex64))
    torch.testing.assert_close(built()(kspace, context | {"maps": ones}), built()(kspace, context))


def test_several_coils_and_every_line_give_the_true_images():
    _, context, image = case(coils=4)
    full = {**context, "mask": torch.ones_like(context["mask"])}
    kspace = forward(image, to_complex(context["maps"]), full["mask"])
    output = built()(to_channels(kspace), full)
    torch.testing.assert_close(output, to_channels(image[:, None]), atol=1e-5, rtol=0)


def test_a_case_is_reconstructed_the_same_in_any_batch():
    kspace, context, _ = case(coils=3)
    alone = built()(kspace[1:], {name: value[1:] for name, value in context.items()})
    torch.testing.assert_close(built()(kspace, context)[1:], alone, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_measurement_and_every_weight():
    kspace, context, _ = case(coils=2)
    network = built()
    network(kspace.requires_grad_(), context).square().sum().backward()
    assert (kspace.grad * (1 - context["mask"]) == 0).all()
    assert kspace.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_settings_that_no_weight_shows_are_part_of_what_the_network_is():
    sizes = [TINY, SharingSize(TINY.cascade, (0, 1))]
    assert len({repr(built(size, weight)) for size in sizes for weight in (None, 2.0)}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tiny"}, "full, small, got 'tiny'"),
        ({"in_channels": 3}, "even, two for each coil"),
        ({"classes": 1}, "classes 2"),
        ({"noise_weight": 0.0}, "dynamic_cascade: noise_weight must be finite and above 0"),
        ({"distances": []}, r"whole numbers, at least 0, each once, got \[\]"),
        ({"distances": [0, -1]}, r"got \[0, -1\]"),
        ({"distances": [1, 1]}, r"got \[1, 1\]"),
        ({"distances": [0.5]}, r"got \[0.5\]"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        dynamic_cascade(**settings)

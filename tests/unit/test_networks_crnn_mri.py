"""The recurrent network against its equations, frame by frame, and its laws."""

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifft2, ifftshift
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.crnn_mri import CrnnMri, RecurrentSize, crnn_mri
from robustbench_med.physics.coils import forward, sensitivities
from robustbench_med.physics.fourier import fft2c, to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

AXES = (-2, -1)
GRID = (16, 12)
FRAMES = 4
TINY = RecurrentSize(3, 4)


def built(size=TINY, noise_weight=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CrnnMri(size, noise_weight).eval()


def case(coils=1, cases=2):
    """k-space `(b, 2 c, t, h, w)`, its context, and the images that it is of."""
    stream = torch.Generator().manual_seed(0)
    image = torch.randn(cases, FRAMES, *GRID, dtype=torch.complex64, generator=stream)
    lines = [cartesian_mask(GRID[0], 2, 4, stream).float() for _ in range(cases * FRAMES)]
    mask = torch.stack(lines).view(cases, 1, FRAMES, GRID[0], 1).repeat(1, 1, 1, 1, GRID[1])
    context, maps = {"mask": mask}, None
    if coils > 1:
        maps = sensitivities(coils, GRID, 15.0)[None, :, None].repeat(cases, 1, 1, 1, 1)
        context["maps"] = to_channels(maps)
    return to_channels(forward(image, maps, mask)), context, image


def transform(kind, values):
    return fftshift(kind(ifftshift(values, axes=AXES), norm="ortho"), axes=AXES)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_the_papers_parameters_and_differ_in_widths_and_iterations_only():
    with torch.device("meta"):
        full, small = build("networks", "crnn_mri"), crnn_mri(preset="small", in_channels=8)
    assert parameters(full) == 297_794
    assert parameters(small) == 42_554
    assert {type(m) for m in full.modules()} == {type(m) for m in small.modules()}
    assert (full.iterations, small.iterations) == (5, 3)


def test_the_full_size_runs_forward_and_backward_on_a_series_of_256_pixels():
    with torch.device("meta"):
        network = crnn_mri()
        kspace, mask = torch.empty(1, 2, 30, 256, 256), torch.empty(1, 1, 30, 256, 256)
        output = network(kspace, {"mask": mask})
        output.square().sum().backward()
    assert output.shape == (1, 2, 30, 256, 256)
    assert all(parameter.grad.shape == parameter.shape for parameter in network.parameters())


@pytest.mark.parametrize("noise_weight", [None, 0.5])
def test_it_follows_the_papers_equations_frame_by_frame(noise_weight):
    network = built(noise_weight=noise_weight).double()
    kspace, context, _ = case()
    kspace, context = kspace.double(), {"mask": context["mask"].double()}
    known = dict(network.named_parameters())

    def convolved(name, maps):
        return F.conv2d(maps, known[f"{name}.weight"], known[f"{name}.bias"], padding=1)

    there = context["mask"][:, 0].numpy()
    first = to_complex(kspace)[:, 0].numpy()
    seen = transform(ifft2, first)
    empty = torch.zeros(2, 4, *GRID, dtype=torch.float64)
    states = {(layer, t): empty for layer in range(4) for t in range(FRAMES)}
    for _ in range(3):
        frames = [
            torch.from_numpy(np.stack([seen[:, t].real, seen[:, t].imag], axis=1))
            for t in range(FRAMES)
        ]
        ways = []
        for order in (range(FRAMES), reversed(range(FRAMES))):
            state, along = empty, {}
            for t in order:
                state = (
                    convolved("bidirectional.from_input", frames[t])
                    + convolved("bidirectional.from_time", state)
                    + convolved("bidirectional.from_iteration", states[0, t])
                ).clamp(min=0)
                along[t] = state
            ways.append(along)
        after = {(0, t): ways[0][t] + ways[1][t] for t in range(FRAMES)}
        for t in range(FRAMES):
            for layer in range(3):
                after[layer + 1, t] = (
                    convolved(f"forwards.{layer}", after[layer, t])
                    + convolved(f"states.{layer}", states[layer + 1, t])
                ).clamp(min=0)
            change = convolved("head", after[3, t]).detach().numpy()
            own = transform(fft2, seen[:, t] + change[:, 0] + 1j * change[:, 1])
            both = (own + (noise_weight or 0) * first[:, t]) / (1 + (noise_weight or 0))
            kept = first[:, t] if noise_weight is None else both
            seen[:, t] = transform(ifft2, (1 - there[:, t]) * own + there[:, t] * kept)
        states = after
    output = to_complex(network(kspace, context).detach())[:, 0].numpy()
    np.testing.assert_allclose(output, seen, atol=1e-9)


def test_noiseless_kspace_is_untouched_where_it_was_measured():
    kspace, context, _ = case()
    output = built()(kspace, context)
    again = to_channels(context["mask"] * fft2c(to_complex(output)))
    torch.testing.assert_close(again, kspace, atol=1e-5, rtol=0)
    assert (output - build("networks", "zero_filled")(kspace, context)).abs().max() > 0.05


def test_a_series_run_backwards_is_reconstructed_backwards():
    kspace, context, _ = case(coils=2)
    turned = {name: value.flip(2) for name, value in context.items()}
    output = built()(kspace, context)
    torch.testing.assert_close(
        built()(kspace.flip(2), turned).flip(2), output, atol=1e-5, rtol=1e-5
    )


def test_frames_see_each_other_and_a_single_frame_is_enough():
    kspace, context, _ = case()
    output = built()(kspace, context)
    kspace[:, :, 0] *= 2
    moved = (built()(kspace, context) - output).abs().amax(dim=(0, 1, 3, 4))
    assert (moved > 1e-4).all()
    alone = {"mask": context["mask"][:, :, :1]}
    assert built()(kspace[:, :, :1], alone).shape == (2, 2, 1, *GRID)


def test_what_was_not_measured_is_not_looked_at():
    kspace, context, _ = case(coils=3)
    altered = kspace + (1 - context["mask"])
    torch.testing.assert_close(built()(altered, context), built()(kspace, context))


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
    sizes = [TINY, RecurrentSize(2, 4)]
    assert len({repr(built(size, weight)) for size in sizes for weight in (None, 2.0)}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tiny"}, "full, small, got 'tiny'"),
        ({"in_channels": 3}, "even, two for each coil"),
        ({"classes": 1}, "classes 2"),
        ({"noise_weight": -1.0}, "crnn_mri: noise_weight must be finite and above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        crnn_mri(**settings)

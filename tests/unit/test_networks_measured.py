"""What every reconstruction asks of a case: one line for each mistake, one answer per frame."""

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifft2, ifftshift

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.consistency import consistency_weight, consistent
from robustbench_med.networks.measured import by_frame, measured, measured_frames
from robustbench_med.physics.coils import forward, sensitivities
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

AXES = (-2, -1)
GRID = (32, 32)
FRAMES = 3
SINGLE = {
    "deep_cascade": {"preset": "small"},
    "fastmri_unet": {"preset": "small"},
    "total_variation": {"iterations": 5},
    "wavelet_l1": {"iterations": 5},
    "zero_filled": {},
}
SERIES = {"crnn_mri": {"preset": "small"}, "dynamic_cascade": {"preset": "small"}}
every = pytest.mark.parametrize("name", [*SINGLE, *SERIES])


def built(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("networks", name, **(SINGLE | SERIES)[name]).eval()


def case(coils=1, cases=2, frames=FRAMES, seed=0):
    """k-space of series `(b, 2 c, t, h, w)` and its context."""
    stream = torch.Generator().manual_seed(seed)
    image = torch.randn(cases, frames, *GRID, dtype=torch.complex64, generator=stream)
    lines = [cartesian_mask(GRID[0], 2, 4, stream).float() for _ in range(cases * frames)]
    mask = torch.stack(lines).view(cases, 1, frames, GRID[0], 1).repeat(1, 1, 1, 1, GRID[1])
    context, maps = {"mask": mask}, None
    if coils > 1:
        maps = sensitivities(coils, GRID, 6.0).unsqueeze(1).expand(cases, coils, 1, *GRID)
        context["maps"] = to_channels(maps)
    return to_channels(forward(image, maps, mask)), context


def given(name, coils=1):
    """The same, or its first frames where the network takes single images."""
    kspace, context = case(coils)
    if name in SERIES:
        return kspace, context
    return kspace[:, :, 0], {key: value[:, :, 0] for key, value in context.items()}


@every
def test_an_image_that_nothing_was_measured_of_is_refused(name):
    kspace, context = given(name)
    context["mask"] = context["mask"].clone()
    context["mask"][1] = 0
    with pytest.raises(InputError) as refused:
        built(name)(kspace, context)
    assert str(refused.value) == (
        f"{name}: the mask has no sampled line in 1 of 2 images, so there is nothing to "
        "reconstruct them from; lower the acceleration or leave them out"
    )


@every
@pytest.mark.parametrize(("coils", "mapped"), [(1, 4), (3, 1)])
def test_maps_of_more_or_fewer_coils_than_were_measured_are_refused(name, coils, mapped):
    kspace, context = given(name, coils)
    maps = kspace[:, :2].repeat(1, mapped, *[1] * (kspace.ndim - 2))
    with pytest.raises(InputError) as refused:
        built(name)(kspace, context | {"maps": maps})
    assert str(refused.value) == (
        f"{name}: expected maps {tuple(kspace.shape)}, got {tuple(maps.shape)}: maps of {mapped} "
        f"coils, k-space of {coils}; give k-space and maps of all coils, or of one"
    )


@every
def test_several_coils_without_maps_and_a_missing_mask_are_refused(name):
    kspace, context = given(name, 2)
    needs = rf"^{name}: needs mask and maps for 2 coils in the case's context, which has"
    with pytest.raises(InputError, match=f"{needs} mask$"):
        built(name)(kspace, {"mask": context["mask"]})
    with pytest.raises(InputError, match=f"{needs} nothing$"):
        built(name)(kspace, None)


@every
def test_a_mask_or_kspace_of_another_shape_is_refused(name):
    kspace, context = given(name)
    with pytest.raises(InputError, match=rf"^{name}: expected mask .*, got \(2, 1, "):
        built(name)(kspace[..., 4:], context)
    axes = "t, h, w" if name in SERIES else "h, w"
    with pytest.raises(InputError, match=rf"^{name}: expected k-space \(b, 2 c, {axes}\) as real"):
        built(name)(kspace[0, 0], context)
    with pytest.raises(InputError, match=r"expected real channels \(b, 2 c, ...\)"):
        built(name)(kspace[:, :1], context)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("coils", [1, 2])
def test_a_network_of_images_takes_the_frames_of_a_series_one_by_one(name, coils):
    kspace, context = case(coils)
    network = built(name)
    with torch.no_grad():
        series = network(kspace, context)
        for frame in range(FRAMES):
            maps = {key: value[:, :, 0] for key, value in context.items() if key == "maps"}
            alone = network(kspace[:, :, frame], {"mask": context["mask"][:, :, frame]} | maps)
            torch.testing.assert_close(series[:, :, frame], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="no sampled line in 2 of 6 images"):
        network(
            kspace, context | {"mask": context["mask"] * torch.tensor([0.0, 1, 1])[:, None, None]}
        )


def test_maps_of_one_frame_hold_for_all_and_a_series_may_lack_a_frame():
    kspace, context = case(2)
    every_frame = context["maps"].expand(-1, -1, FRAMES, -1, -1)
    context["mask"] = context["mask"].clone()
    context["mask"][:, :, 1] = 0
    found, maps, _ = measured_frames("x", kspace, context)
    assert maps.shape == (2, 2, 1, *GRID)
    assert measured_frames("x", kspace, context | {"maps": every_frame})[1].shape == found.shape
    context["mask"][0] = 0
    with pytest.raises(InputError, match="no sampled line in 1 of 2 images"):
        measured_frames("x", kspace, context)


def test_a_single_image_takes_no_maps_of_one_frame():
    kspace, context = case(2, frames=1)
    with pytest.raises(InputError, match="expected maps"):
        measured("x", kspace[:, :, 0], {"mask": context["mask"][:, :, 0], "maps": context["maps"]})


def test_frames_are_counted_from_the_series_not_from_the_maps():
    seen = []
    kspace, context = case(2)
    by_frame("x", lambda image, known: seen.append(known["maps"].shape) or image, kspace, context)
    assert seen == [(6, 4, *GRID)]


def transform(kind, values):
    return fftshift(kind(ifftshift(values, axes=AXES), norm="ortho"), axes=AXES)


@pytest.mark.parametrize("noise_weight", [None, 0.5, 20.0])
@pytest.mark.parametrize("coils", [1, 3])
def test_data_consistency_is_its_equation_line_by_line(noise_weight, coils):
    kspace, context = case(coils)
    seen = torch.randn(2, 2, FRAMES, *GRID, generator=torch.Generator().manual_seed(1))
    image = to_complex(seen)[:, 0].numpy()
    maps = to_complex(context["maps"])[:, :, 0].numpy() if coils > 1 else np.ones((2, 1, 1, 1))
    expected = np.zeros_like(image)
    for number in range(2):
        for frame in range(FRAMES):
            for coil in range(coils):
                own = transform(fft2, maps[number, coil] * image[number, frame])
                there = to_complex(kspace)[number, coil, frame].numpy()
                for line in range(GRID[0]):
                    if context["mask"][number, 0, frame, line, 0] == 0:
                        continue
                    if noise_weight is None:
                        own[line] = there[line]
                    else:
                        own[line] = (own[line] + noise_weight * there[line]) / (1 + noise_weight)
                back = transform(ifft2, own)
                expected[number, frame] += maps[number, coil].conj() * back
    known = measured_frames("x", kspace, context)
    found = consistent(seen, *known, consistency_weight("x", noise_weight))
    np.testing.assert_allclose(to_complex(found)[:, 0].numpy(), expected, atol=2e-5)


def test_the_weight_of_a_measurement_grows_with_the_noise_weight_to_that_without_noise():
    weights = [consistency_weight("x", weight) for weight in (0.5, 3.0, 1e9, None)]
    assert weights == pytest.approx([1 / 3, 3 / 4, 1, 1])
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="x: noise_weight must be finite and above 0"):
            consistency_weight("x", wrong)

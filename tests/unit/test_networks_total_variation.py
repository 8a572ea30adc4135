"""Total variation against a closed form, optimality conditions and another solver."""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifft2, ifftshift

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.total_variation import (
    gradient,
    gradient_adjoint,
    total_variation,
)
from robustbench_med.physics.coils import adjoint, forward, sensitivities
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

AXES = (-2, -1)


def phantom(size):
    """Discs of even brightness under a smooth phase."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    image = 0.2 * ((y / 0.9) ** 2 + (x / 0.8) ** 2 < 1).double()
    image[(y + 0.1) ** 2 + (x - 0.1) ** 2 < 0.16] = 0.5
    image[(y + 0.1) ** 2 + (x - 0.1) ** 2 < 0.07] = 1.0
    image[(y - 0.5) ** 2 + (x + 0.3) ** 2 < 0.03] = 0.7
    return torch.polar(image, 0.4 * x.double())


def problem(size=16, coils=1, acceleration=2, noise=0.0):
    """Complex k-space `(1, c, h, w)`, maps or None, mask, and the true image."""
    generator = torch.Generator().manual_seed(0)
    lines = cartesian_mask(size, acceleration, 4, generator).double()
    mask = lines[None, None, :, None].expand(1, 1, size, size)
    maps = None
    if coils > 1:
        maps = sensitivities(coils, (size, size), 160 / size).to(torch.complex128)[None]
    image = phantom(size)[None]
    kspace = forward(image, maps, mask)
    kspace = kspace + noise * mask * torch.randn(
        kspace.shape, dtype=torch.complex128, generator=generator
    )
    return kspace, maps, mask, image


def solved(kspace, maps, mask, **settings):
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps)})
    return to_complex(total_variation(**settings)(to_channels(kspace), context))[:, 0]


def weight(lam, kspace, maps, mask):
    return lam * np.percentile(adjoint(kspace, maps, mask).abs().numpy(), 99)


def variation(image):
    down, across = (np.roll(image, -1, axis) - image for axis in AXES)
    return np.sqrt(np.abs(down) ** 2 + np.abs(across) ** 2).sum()


def primal_dual(kspace, maps, mask, lam, steps=2000):
    """Solve by the method of Condat and Vu, in numpy."""
    maps = np.ones((1, 1, 1, 1)) if maps is None else maps.numpy()
    kspace, mask = kspace.numpy(), mask.numpy()

    def slope(image):
        missed = mask * (transform(fft2, maps * image[:, None]) - kspace)
        return (maps.conj() * transform(ifft2, missed)).sum(axis=1)

    image = -slope(np.zeros(kspace.shape[:1] + kspace.shape[2:], dtype=complex))
    dual = np.zeros((2, *image.shape), dtype=complex)
    for _ in range(steps):
        turn = sum(np.roll(d, 1, axis) - d for d, axis in zip(dual, AXES, strict=True))
        after = image - 0.25 * (slope(image) + turn)
        far = 2 * after - image
        dual = dual + 0.4 * np.stack([np.roll(far, -1, axis) - far for axis in AXES])
        dual = dual / np.maximum(np.sqrt((np.abs(dual) ** 2).sum(axis=0)) / lam, 1)
        image = after
    return image


def transform(kind, values):
    return fftshift(kind(ifftshift(values, axes=AXES), norm="ortho"), axes=AXES)


def test_the_adjoint_of_the_gradient_is_its_adjoint():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 5, 6, dtype=torch.complex128, generator=generator)
    slopes = torch.randn(2, 2, 5, 6, dtype=torch.complex128, generator=generator)
    left = torch.vdot(slopes.flatten(), gradient(image).flatten())
    right = torch.vdot(gradient_adjoint(slopes).flatten(), image.flatten())
    assert abs(left - right) < 1e-10


def test_a_stripe_is_lowered_and_its_ground_raised_by_what_the_edges_cost():
    height, stripe, lam = 20, 8, 0.2
    bright = torch.tensor(3.0 * np.exp(0.7j))
    image = torch.zeros(1, height, 6, dtype=torch.complex128)
    image[:, 5 : 5 + stripe] = bright
    mask = torch.ones(1, 1, height, 6, dtype=torch.float64)
    found = solved(forward(image, None, mask), None, mask, lam=lam, iterations=400)
    share = torch.where(image.abs() > 0, 1 - 2 * lam / stripe, 2 * lam / (height - stripe)).double()
    torch.testing.assert_close(found, bright * share, atol=1e-6, rtol=0)


@pytest.mark.parametrize("coils", [1, 3])
def test_it_agrees_with_another_solver(coils):
    kspace, maps, mask, _ = problem(coils=coils, noise=0.02)
    lam = weight(0.02, kspace, maps, mask)
    expected = primal_dual(kspace, maps, mask, lam)
    found = solved(kspace, maps, mask, lam=0.02, iterations=1000)[0].numpy()
    np.testing.assert_allclose(found, expected[0], atol=1e-3)
    soon = solved(kspace, maps, mask, lam=0.02)[0].numpy()
    assert np.linalg.norm(soon - expected[0]) < 0.01 * np.linalg.norm(expected[0])


def mirrored(values):
    """Value at the opposite place; the origin stays."""
    return values.flip(AXES).roll((1, 1), AXES)


def exchanged(path, values):
    """Write `(c, h, w)` as the other program's arrays: h, w, 1, c, first axis fastest."""
    height, width = values.shape[-2:]
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{height} {width} 1 {len(values)}\n")
    values.transpose(1, 2).contiguous().numpy().astype(np.complex64).tofile(
        path.with_suffix(".cfl")
    )
    return path


@pytest.mark.skipif(shutil.which("bart") is None, reason="the program bart is not installed")
@pytest.mark.parametrize("coils", [1, 3])
def test_it_agrees_with_bart(tmp_path, coils):
    kspace, maps, mask, _ = problem(32, coils=coils, noise=0.02)
    scaled = kspace / weight(1.0, kspace, maps, mask)
    known = torch.ones_like(kspace) if maps is None else maps
    arrays = {"kspace": scaled, "maps": known, "mask": mask}
    paths = {name: exchanged(tmp_path / name, value[0]) for name, value in arrays.items()}
    subprocess.run(
        ["bart", "pics", "-w", "1", "-R", "T:3:0:0.02", "-i", "1000", "-u", "0.1",
         "-p", paths["mask"], paths["kspace"], paths["maps"], tmp_path / "found"],
        check=True, capture_output=True,
    )  # fmt: skip
    theirs = np.fromfile(tmp_path / "found.cfl", np.complex64).reshape(32, 32, order="F")
    # Its differences go to the row and column before.
    settings = [None if each is None else mirrored(each) for each in (scaled, maps, mask)]
    ours = mirrored(solved(*settings, lam=0.02, iterations=1000))[0].numpy()
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)


@pytest.mark.parametrize("coils", [1, 4])
def test_the_solution_meets_the_conditions_of_a_minimum(coils):
    kspace, maps, mask, _ = problem(coils=coils, noise=0.02)
    lam = weight(0.02, kspace, maps, mask)
    found = solved(kspace, maps, mask, lam=0.02, iterations=1000)
    pull = adjoint(kspace - forward(found, maps, mask), maps, mask)
    along = torch.vdot(found.flatten(), pull.flatten()).real.item()
    assert along == pytest.approx(lam * variation(found[0].numpy()), rel=1e-3)
    generator = np.random.default_rng(0)
    for _ in range(200):
        top, left = generator.integers(0, 15, 2)
        other = np.zeros((16, 16), dtype=complex)
        other[top : top + generator.integers(1, 8), left : left + generator.integers(1, 8)] = (
            generator.normal() + 1j * generator.normal()
        )
        gain = np.vdot(other, pull[0].numpy()).real
        assert gain <= lam * variation(other) * (1 + 1e-3)


@pytest.mark.parametrize("coils", [1, 6])
@pytest.mark.parametrize("acceleration", [2, 4])
def test_it_is_far_closer_to_a_phantom_than_the_zero_filled_image(coils, acceleration):
    kspace, maps, mask, image = problem(64, coils, acceleration, noise=0.02)
    error = (solved(kspace, maps, mask) - image).norm() ** 2
    assert error < 0.35 * (adjoint(kspace, maps, mask) - image).norm() ** 2


@pytest.mark.parametrize("coils", [1, 3])
def test_ten_times_the_signal_gives_ten_times_the_image(coils):
    kspace, maps, mask, _ = problem(coils=coils)
    torch.testing.assert_close(
        solved(10 * kspace, maps, mask), 10 * solved(kspace, maps, mask), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("coils", [1, 2])
def test_its_derivative_is_that_of_finite_differences(coils):
    kspace, maps, mask, _ = problem(8, coils, noise=0.05)
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps)})
    network = total_variation(lam=0.05, iterations=7)
    image = to_channels(kspace).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda given: network(given, context)[:, :, 2:4, 3:5], image, fast_mode=True
    )


def test_a_black_image_stays_black_with_a_finite_derivative():
    kspace = torch.zeros(2, 2, 8, 8, requires_grad=True)
    output = total_variation()(kspace, {"mask": torch.ones(2, 1, 8, 8)})
    assert not output.any()
    output.sum().backward()
    assert kspace.grad.isfinite().all()


def test_without_the_centre_of_kspace_the_answer_is_finite():
    kspace, _, mask, _ = problem()
    mask = mask.clone()
    mask[:, :, 8] = 0
    assert solved(mask * kspace, None, mask).isfinite().all()


def test_a_case_is_reconstructed_the_same_in_any_batch():
    kspace, _, mask, _ = problem()
    pair = torch.cat([5 * kspace.flip(-1), kspace])
    both = solved(pair, None, mask.expand(2, -1, -1, -1))
    torch.testing.assert_close(both[1:], solved(kspace, None, mask))


def test_neither_baseline_has_anything_to_train_and_settings_tell_them_apart():
    one, other = build("networks", "total_variation"), total_variation(lam=0.02)
    for network in (one, other, build("networks", "zero_filled")):
        assert not network.state_dict()
    assert repr(one) != repr(other)


def test_the_zero_filled_image_is_the_adjoint():
    kspace, maps, mask, _ = problem(coils=3)
    context = {"mask": mask, "maps": to_channels(maps)}
    seen = transform(ifft2, kspace.numpy())
    expected = (maps.numpy().conj() * seen).sum(axis=1)
    found = to_complex(build("networks", "zero_filled")(to_channels(kspace), context))[:, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lam": 0.0}, "lam must be finite and above 0, got 0.0; for 0 use zero_filled"),
        ({"lam": float("nan")}, "lam must be finite"),
        ({"iterations": 0}, "iterations must be a whole number, at least 1, got 0"),
        ({"iterations": 2.5}, "whole number"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        total_variation(**settings)

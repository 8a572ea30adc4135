"""Wavelets against their equations, and compressed sensing with them against its conditions."""

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifftshift

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks import wavelets
from robustbench_med.networks.wavelet_l1 import wavelet_l1
from robustbench_med.networks.wavelets import analyse, levels_of, scaling_filter, synthesise
from robustbench_med.physics.coils import adjoint, forward, sensitivities
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask

AXES = (-2, -1)
SIDES = [(16, 16, 2), (32, 24, 2), (40, 16, 1)]


def drawn(shape, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex128, generator=stream)


def problem(size=16, coils=1, acceleration=2, noise=0.02):
    """Complex k-space `(1, c, h, w)`, maps or None, mask, and the true image."""
    stream = torch.Generator().manual_seed(0)
    lines = cartesian_mask(size, acceleration, 4, stream).double()
    mask = lines[None, None, :, None].expand(1, 1, size, size)
    maps = None
    if coils > 1:
        maps = sensitivities(coils, (size, size), 160 / size).to(torch.complex128)[None]
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size, dtype=torch.float64)] * 2, indexing="ij")
    image = 0.3 * ((y / 0.9) ** 2 + (x / 0.8) ** 2 < 1) + 0.7 * (y**2 + (x - 0.1) ** 2 < 0.2)
    image = torch.polar(image.double(), 0.4 * x)[None]
    kspace = forward(image, maps, mask)
    return kspace + noise * mask * drawn(kspace.shape), maps, mask, image


def solved(kspace, maps, mask, **settings):
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps)})
    return to_complex(wavelet_l1(**settings)(to_channels(kspace), context))[:, 0]


def weight(lam, kspace, maps, mask):
    """What `lam` comes to in the image's own unit."""
    return lam * np.percentile(adjoint(kspace, maps, mask).abs().numpy(), 99)


def basis(height, width, levels):
    """The transform as a matrix, one level's sums after the other's, written with loops."""
    taps = scaling_filter()
    matrix = np.eye(height * width).reshape(height * width, height, width)
    for level in range(levels):
        rows, columns = height >> level, width >> level
        for axis, length in ((1, rows), (2, columns)):
            part = np.moveaxis(matrix[:, :rows, :columns].copy(), axis, 2)
            made = np.zeros_like(part)
            for k in range(length // 2):
                for m in range(8):
                    made[..., k] += taps[m] * part[..., (2 * k + m) % length]
                    made[..., length // 2 + k] += (
                        (-1) ** m * taps[7 - m] * part[..., (2 * k + m) % length]
                    )
            matrix[:, :rows, :columns] = np.moveaxis(made, 2, axis)
    return matrix.reshape(height * width, -1).T


def test_the_filter_is_the_one_that_daubechies_tabulates():
    table = [0.2303778133, 0.7148465706, 0.6308807679, -0.0279837694,
             -0.1870348117, 0.0308413818, 0.0328830117, -0.0105974018]  # fmt: skip
    np.testing.assert_allclose(scaling_filter(), table, atol=1e-10)
    root = np.sqrt(3)
    two = [1 + root, 3 + root, 3 - root, 1 - root]
    np.testing.assert_allclose(scaling_filter(2), np.array(two) / (4 * np.sqrt(2)), atol=1e-12)


def test_the_filter_meets_the_equations_that_define_it():
    taps = np.array(scaling_filter())
    for shift in range(4):
        product = taps[2 * shift :] @ taps[: 8 - 2 * shift]
        assert product == pytest.approx(float(shift == 0), abs=1e-12)
    wavelet = (-1.0) ** np.arange(8) * taps[::-1]
    for moment in range(4):
        assert wavelet @ np.arange(8.0) ** moment == pytest.approx(0, abs=1e-9)
    assert abs(wavelet @ np.arange(8.0) ** 4) > 0.1


@pytest.mark.parametrize(("height", "width", "levels"), SIDES)
def test_the_transform_is_the_matrix_of_its_sums(height, width, levels):
    image = drawn((2, height, width))
    matrix = basis(height, width, levels)
    expected = (image.reshape(2, -1).numpy() @ matrix.T).reshape(image.shape)
    np.testing.assert_allclose(analyse(image, levels).numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)


def test_it_is_the_transform_of_pywavelets_up_to_a_shift():
    pywt = pytest.importorskip("pywt", reason="PyWavelets is not installed")
    image = drawn((32, 32)).real
    mine = analyse(image.roll((1, 1), AXES), 1).numpy()
    theirs = pywt.dwt2(image.numpy(), "db4", mode="periodization")
    quarters = [theirs[0], *theirs[1]]
    places = [(0, 0), (16, 0), (0, 16), (16, 16)]
    for quarter, (top, left) in zip(quarters, places, strict=True):
        part = np.roll(mine[top : top + 16, left : left + 16], (1, 1), AXES)
        np.testing.assert_allclose(part, quarter, atol=1e-10)


@pytest.mark.parametrize("size", [(96, 96), (72, 80), (8, 16)])
def test_coefficients_give_the_image_back_and_their_adjoint_is_their_inverse(size):
    levels = levels_of(*size)
    image, other = drawn((2, *size)), drawn((2, *size), seed=1)
    found = analyse(image, levels)
    left = torch.vdot(other.flatten(), found.flatten())
    right = torch.vdot(synthesise(other, levels).flatten(), image.flatten())
    assert abs(left - right) < 1e-10
    torch.testing.assert_close(synthesise(found, levels), image, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.norm(), image.norm(), atol=1e-10, rtol=0)


def test_levels_are_as_many_as_the_size_allows():
    sizes = {(96, 96): 4, (256, 256): 4, (72, 96): 3, (64, 32): 3, (16, 16): 2, (8, 8): 1,
             (6, 96): 0, (97, 96): 0}  # fmt: skip
    assert {size: levels_of(*size) for size in sizes} == sizes


def test_kept_matrices_serve_derivatives_after_a_call_without_any():
    wavelets._level.cache_clear()
    image = torch.randn(1, 16, 16)
    with torch.inference_mode():
        analyse(image.clone(), 2)
    image.requires_grad_()
    analyse(image, 2).square().sum().backward()
    torch.testing.assert_close(image.grad, 2 * image.detach())


@pytest.mark.parametrize("coils", [1, 4])
def test_the_solution_on_one_grid_meets_the_conditions_of_a_minimum(coils):
    kspace, maps, mask, _ = problem(coils=coils)
    lam = weight(0.02, kspace, maps, mask)
    found = solved(kspace, maps, mask, lam=0.02, iterations=1000, shifts=1)
    pull = adjoint(kspace - forward(found, maps, mask), maps, mask)
    pulls, details = (analyse(image[0], 2).numpy() for image in (pull, found))
    assert abs(pulls[:4, :4]).max() < 1e-6 * lam
    pulls[:4, :4] = details[:4, :4] = 0
    there = abs(details) > 1e-6
    assert 30 < there.sum() < 200
    turned = details[there] / abs(details[there])
    np.testing.assert_allclose(pulls[there], lam * turned, atol=1e-4 * lam)
    assert abs(pulls[~there]).max() <= lam * (1 + 1e-4)


def transform(values):
    return fftshift(fft2(ifftshift(values, axes=AXES), norm="ortho"), axes=AXES)


def alternating(kspace, maps, mask, prox, steps=300):
    """Solve by alternating directions, with the linear system as a matrix, in numpy."""
    size = kspace.shape[-1]
    units = np.eye(size * size).reshape(-1, size, size)
    seen = units[:, None] if maps is None else maps.numpy() * units[:, None]
    system = (mask.numpy() * transform(seen)).reshape(size * size, -1).T
    start = system.conj().T @ kspace.numpy().ravel()
    inverse = np.linalg.inv(system.conj().T @ system + np.eye(size * size))
    bend = start
    dual = np.zeros_like(start)
    for _ in range(steps):
        image = inverse @ (start + bend - dual)
        bend = prox((image + dual).reshape(size, size)).ravel()
        dual = dual + image - bend
    return bend.reshape(size, size)


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("shifts", [1, 3])
def test_it_agrees_with_another_solver(coils, shifts):
    kspace, maps, mask, _ = problem(coils=coils)
    lam, matrix = weight(0.03, kspace, maps, mask), basis(16, 16, 2)
    cost = np.full((16, 16), lam)
    cost[:4, :4] = 0

    def prox(image):
        made = []
        for number in range(shifts):
            place = (5 * number, 3 * number)
            values = matrix @ np.roll(image, place, AXES).ravel()
            length = np.maximum(abs(values), 1e-300)
            values = values / length * np.maximum(length - cost.ravel(), 0)
            back = (matrix.T @ values).reshape(16, 16)
            made.append(np.roll(back, [-step for step in place], AXES))
        return np.mean(made, axis=0)

    expected = alternating(kspace, maps, mask, prox)
    found = solved(kspace, maps, mask, lam=0.03, iterations=500, shifts=shifts)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    soon = solved(kspace, maps, mask, lam=0.03, shifts=shifts)[0].numpy()
    assert np.linalg.norm(soon - expected) < 0.02 * np.linalg.norm(expected)


def test_the_objective_falls_and_comes_near_its_least_by_the_square_of_the_steps():
    kspace, maps, mask, _ = problem(32)
    lam = weight(0.02, kspace, maps, mask)

    def objective(iterations):
        found = solved(kspace, maps, mask, lam=0.02, iterations=iterations, shifts=1)
        details = analyse(found, 3)
        details[..., :4, :4] = 0
        missed = kspace - forward(found, maps, mask)
        return (missed.abs().square().sum() / 2 + lam * details.abs().sum()).item()

    counts = (1, 2, 5, 10, 20, 40, 80)
    values = [objective(count) for count in counts]
    least = objective(600)
    assert values == sorted(values, reverse=True)
    start = adjoint(kspace, maps, mask)
    away = (start - solved(kspace, maps, mask, lam=0.02, iterations=600, shifts=1)).norm() ** 2
    for count, value in zip(counts, values, strict=True):
        assert -1e-9 <= value - least <= 2 * away / (count + 1) ** 2  # Beck and Teboulle, 4.4


@pytest.mark.parametrize("coils", [1, 6])
def test_it_is_closer_to_a_phantom_than_the_zero_filled_image(coils):
    kspace, maps, mask, image = problem(64, coils, 3)
    error = (solved(kspace, maps, mask) - image).norm() ** 2
    assert error < 0.7 * (adjoint(kspace, maps, mask) - image).norm() ** 2
    alone = (solved(kspace, maps, mask, shifts=1) - image).norm() ** 2
    assert error < 0.9 * alone


@pytest.mark.parametrize("coils", [1, 3])
def test_ten_times_the_signal_gives_ten_times_the_image(coils):
    kspace, maps, mask, _ = problem(coils=coils)
    torch.testing.assert_close(
        solved(10 * kspace, maps, mask), 10 * solved(kspace, maps, mask), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("coils", [1, 2])
def test_its_derivative_is_that_of_finite_differences(coils):
    kspace, maps, mask, _ = problem(8, coils)
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps)})
    network = wavelet_l1(lam=0.05, iterations=5, shifts=2)
    image = to_channels(kspace).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda given: network(given, context)[:, :, 2:4, 3:5], image, fast_mode=True
    )


def test_a_black_image_stays_black_with_a_finite_derivative():
    kspace = torch.zeros(2, 2, 8, 8, requires_grad=True)
    output = wavelet_l1()(kspace, {"mask": torch.ones(2, 1, 8, 8)})
    assert not output.any()
    output.sum().backward()
    assert kspace.grad.isfinite().all()


def test_a_case_is_reconstructed_the_same_in_any_batch():
    kspace, _, mask, _ = problem()
    pair = torch.cat([5 * kspace.flip(-1), kspace])
    both = solved(pair, None, mask.expand(2, -1, -1, -1))
    torch.testing.assert_close(both[1:], solved(kspace, None, mask))


def test_it_has_nothing_to_train_and_settings_tell_two_apart():
    networks = [build("networks", "wavelet_l1"), wavelet_l1(lam=0.01), wavelet_l1(shifts=2)]
    assert not any(network.state_dict() for network in networks)
    assert len({repr(network) for network in networks}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lam": 0.0}, "lam must be finite and above 0, got 0.0; for 0 use zero_filled"),
        ({"lam": float("nan")}, "lam must be finite"),
        ({"iterations": 0}, "iterations must be a whole number, at least 1, got 0"),
        ({"shifts": True}, "shifts must be a whole number, at least 1, got True"),
        ({"shifts": 2.5}, "shifts must be a whole number"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        wavelet_l1(**settings)


@pytest.mark.parametrize("size", [(15, 16), (16, 6)])
def test_a_side_that_cannot_be_halved_is_refused(size):
    with pytest.raises(InputError, match=f"be even and at least 8, got {size[0]} x {size[1]}"):
        wavelet_l1()(torch.ones(1, 2, *size), {"mask": torch.ones(1, 1, *size)})

"""Coils against Biot and Savart summed over short wires, and the operators against adjoints."""

import math

import numpy as np
import pytest
import torch
from numpy.fft import fft2, fftshift, ifftshift

from robustbench_med.errors import InputError
from robustbench_med.physics.coils import adjoint, forward, loop_field, sensitivities


def wires(centre, normal, tangent, radius, points, pieces=4000):
    """Field of a polygon of short wires around `centre`, at `points` `(n, 3)`."""
    angle = 2 * np.pi * (np.arange(pieces) + 0.5) / pieces
    third = np.cross(normal, tangent)
    place = centre + radius * (np.cos(angle)[:, None] * tangent + np.sin(angle)[:, None] * third)
    flow = -np.sin(angle)[:, None] * tangent + np.cos(angle)[:, None] * third
    flow = flow * 2 * np.pi * radius / pieces
    away = points[:, None] - place
    return (np.cross(flow, away) / np.linalg.norm(away, axis=-1)[..., None] ** 3).sum(axis=1)


def test_a_loops_field_is_that_of_biot_and_savart():
    generator = np.random.default_rng(0)
    axial, radial = generator.uniform(-200, 200, 20), generator.uniform(0, 200, 20)
    radial[:3] = 0, 1e-4, 0.05
    along, across = loop_field(60.0, axial, radial)
    points = np.stack([radial, np.zeros(20), axial], axis=1)
    summed = wires(np.zeros(3), np.array([0, 0, 1.0]), np.array([1.0, 0, 0]), 60.0, points) / 2
    np.testing.assert_allclose(along, summed[:, 2], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(across, summed[:, 0], rtol=1e-4, atol=1e-10)


def test_on_its_axis_it_is_the_textbooks():
    along, across = loop_field(60.0, np.array([100.0]), np.array([0.0]))
    assert along[0] == pytest.approx(math.pi * 60**2 / (60**2 + 100**2) ** 1.5, rel=1e-5)
    assert across[0] == 0


def test_maps_are_the_normalised_fields_of_loops_on_the_ring():
    coils, pixel, offset = 4, 20.0, (13.0, -7.0)
    maps = sensitivities(coils, (6, 5), pixel, offset).numpy()
    y = (np.arange(6) - 3) * pixel + offset[0]
    x = (np.arange(5) - 2) * pixel + offset[1]
    grid = np.stack([*np.meshgrid(x, y, indexing="xy"), np.zeros((6, 5))], axis=-1).reshape(-1, 3)
    fields = []
    for coil in range(coils):
        angle = 2 * np.pi * coil / coils
        outward = np.array([np.cos(angle), np.sin(angle), 0])
        tangent = np.array([-np.sin(angle), np.cos(angle), 0])
        field = wires(200 * outward, -outward, tangent, 75.0, grid)
        fields.append((field[:, 0] - 1j * field[:, 1]).reshape(6, 5))
    expected = np.stack(fields) / np.sqrt((np.abs(fields) ** 2).sum(axis=0))
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize("coils", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("pixel", [1.0, 4.0])
def test_squares_sum_to_1_and_neighbours_differ_little(coils, pixel):
    maps = sensitivities(coils, (32, 24), pixel, (30.0, 0.0))
    assert maps.dtype == torch.complex64
    assert maps.shape == (coils, 32, 24)
    torch.testing.assert_close(maps.abs().square().sum(dim=0), torch.ones(32, 24))
    for axis in (1, 2):
        assert maps.diff(dim=axis).abs().max() < 0.025 * pixel


def test_each_coil_sees_its_own_side_best():
    maps = sensitivities(4, (33, 33), 6.0).abs()
    assert maps[:, 16, 32].argmax() == 0
    assert maps[:, 32, 16].argmax() == 1
    assert maps[:, 16, 0].argmax() == 2
    assert maps[:, 0, 16].argmax() == 3
    torch.testing.assert_close(maps[0, 16, 32], maps[1, 32, 16])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0, (8, 8), 1.0), "at least 1 coil"),
        ((4, (0, 8), 1.0), "at least 1 coil and 1 pixel"),
        ((4, (8, 8), 0.0), "pixel_mm must be finite and above 0"),
        ((4, (8, 8), math.nan), "pixel_mm must be finite"),
        ((4, (8, 8), 1.0, (math.inf, 0.0)), "centre_mm finite"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        sensitivities(*settings)


def problem(coils, shape=(12, 9), cases=3):
    generator = torch.Generator().manual_seed(0)

    def drawn(*size):
        return torch.randn(*size, *shape, dtype=torch.complex128, generator=generator)

    maps = drawn(cases, coils) if coils else None
    mask = (torch.rand(cases, 1, shape[0], 1, generator=generator) < 0.4).double()
    return drawn(cases), drawn(cases, coils or 1), maps, mask.expand(-1, -1, -1, shape[1])


@pytest.mark.parametrize("coils", [0, 1, 5])
def test_adjoint_is_the_adjoint_of_forward(coils):
    image, kspace, maps, mask = problem(coils)
    left = torch.vdot(kspace.flatten(), forward(image, maps, mask).flatten())
    right = torch.vdot(adjoint(kspace, maps, mask).flatten(), image.flatten())
    assert abs(left - right) < 1e-10


def test_forward_is_what_numpy_says():
    image, _, maps, mask = problem(2)
    seen = (maps[1, 1] * image[1]).numpy()
    expected = mask[1, 0].numpy() * fftshift(fft2(ifftshift(seen), norm="ortho"))
    np.testing.assert_allclose(forward(image, maps, mask)[1, 1].numpy(), expected, atol=1e-12)


def test_all_lines_of_normalised_coils_give_the_image_back():
    image = problem(0)[0]
    maps = sensitivities(6, image.shape[-2:], 10.0).expand(3, -1, -1, -1)
    full = torch.ones(3, 1, *image.shape[-2:])
    torch.testing.assert_close(
        adjoint(forward(image, maps, full), maps, full), image, atol=1e-6, rtol=0
    )

"""ACNN-SR's network against its formula, and splines against scipy's."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates, zoom
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.acnn_sr import acnn_sr
from robustbench_med.networks.spline import spline, spline_matrix

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
FACTORS = (5, 2, 2)


def awake(**settings):
    """An untrained network whose last layer is not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = acnn_sr(preset="small", **settings)
        torch.nn.init.normal_(network.last.weight, std=0.05)
    return network.double().eval()


def stack(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def centres(length, factor):
    """Where the centres of the thin voxels lie, counted in thick voxels."""
    return (np.arange(length * factor) + 0.5) / factor - 0.5


def test_full_has_the_parameters_it_says_and_makes_stacks_finer():
    with torch.device("meta"):
        network = build("networks", "acnn_sr")
        fine = network(torch.empty(2, 1, 12, 96, 96))
        assert fine.shape == (2, 1, 60, 192, 192)
        fine.sum().backward()
    assert MADE.parameters(network) == 292_641
    assert all(p.grad.shape == p.shape for p in network.parameters())


def test_full_learns_from_a_stack():
    network = acnn_sr()
    torch.nn.init.normal_(network.last.weight, std=0.05)
    F.smooth_l1_loss(network(torch.rand(1, 1, 2, 8, 8)), torch.rand(1, 1, 10, 16, 16)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_small_differs_in_depth_and_widths_only_and_fits_in_two_megabytes():
    small = acnn_sr(preset="small")
    with torch.device("meta"):
        full = acnn_sr()
    assert MADE.parameters(small) == 10_161
    assert sum(tensor.nbytes for tensor in small.state_dict().values()) < 2 * 2**20
    assert {type(m) for m in small.modules()} == {type(m) for m in full.modules()}


@pytest.mark.parametrize("channels", [1, 2])
def test_it_equals_what_it_is_said_to_be(channels):
    network, image = awake(in_channels=channels), stack(2, channels, 3, 6, 4)
    state = network.state_dict()

    def convolved(name, maps):
        repeated = F.pad(maps, (1,) * 6, mode="replicate")
        return F.conv3d(repeated, state[f"{name}.weight"], state[f"{name}.bias"])

    maps = convolved("coarse.2", convolved("coarse.0", image).clamp(min=0)).clamp(min=0)
    # Each thick voxel becomes 5 x 2 x 2 thin ones.
    larger = torch.einsum("bczyx,cduvw->bdzuyvxw", maps, state["enlarge.weight"])
    larger = larger.flatten(2, 3).flatten(3, 4).flatten(4, 5)
    maps = (larger + state["enlarge.bias"][:, None, None, None]).clamp(min=0)
    expected = F.interpolate(image, scale_factor=FACTORS, mode="trilinear")
    torch.testing.assert_close(network(image), expected + convolved("last", maps))


def test_untrained_it_is_linear_interpolation():
    image = torch.rand(2, 1, 3, 6, 4)
    assert torch.equal(acnn_sr()(image), build("networks", "interpolation")(image))


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_stack_moved_by_one_thick_voxel_moves_the_answer_by_its_thin_ones(axis):
    network, image = awake(), stack(1, 1, 9, 9, 9)
    moved = network(image.roll(1, axis)).roll(-FACTORS[axis - 2], axis)
    inside = (..., slice(20, 25), slice(8, 10), slice(8, 10))
    torch.testing.assert_close(moved[inside], network(image)[inside])


def test_within_a_constant_stack_every_thick_voxel_becomes_the_same_thin_ones():
    fine = awake()(torch.full((1, 1, 7, 7, 7), 0.3, dtype=torch.float64))
    cells = fine.reshape(7, 5, 7, 2, 7, 2)[1:-1, :, 1:-1, :, 1:-1]  # rims see beyond the stack
    torch.testing.assert_close(cells, cells[:1, :, :1, :, :1].expand_as(cells))


@pytest.mark.parametrize("factors", [(5, 2, 2), (1, 2, 3), [3, 1, 1]])
def test_any_factors_and_numbers_of_slices_are_taken(factors):
    image, shape = torch.rand(2, 1, 1, 4, 6), (2, 1, factors[0], 4 * factors[1], 6 * factors[2])
    assert acnn_sr(preset="small", factors=factors)(image).shape == shape
    assert spline(factors=factors)(image).shape == shape
    assert repr(acnn_sr(preset="small", factors=factors)) != repr(acnn_sr(factors=(2, 5, 2)))
    assert repr(spline(factors=factors)) != repr(spline(factors=(2, 5, 2)))


def test_each_stack_is_answered_alone():
    network, image = awake(), stack(3, 1, 2, 6, 6)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]))


def test_it_learns_what_interpolation_does_not_know():
    torch.manual_seed(0)
    network = acnn_sr(preset="small", factors=(1, 2, 2))
    fine = torch.rand(8, 1, 2, 3, 3).round().repeat_interleave(8, 3).repeat_interleave(8, 4)
    coarse = F.avg_pool3d(fine, (1, 2, 2))
    before = F.mse_loss(network(coarse), fine).item()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.mse_loss(network(coarse), fine)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * before


def test_weights_start_he_normal_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = acnn_sr(preset="small")
    for name, tensor in network.named_parameters():
        if name == "last.weight" or name.endswith("bias"):
            assert not tensor.any(), name
        else:
            seen = tensor.shape[0] if name == "enlarge.weight" else tensor[0].numel()
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / seen), rel=0.15), name


def test_splines_are_scipys_up_to_the_border():
    image = stack(4, 7, 6).numpy()
    where = np.meshgrid(*map(centres, image.shape, FACTORS), indexing="ij")
    expected = map_coordinates(image, where, order=3, mode="mirror")
    found = spline()(torch.as_tensor(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_inside_they_are_scipys_zoom_whatever_lies_beyond():
    image = stack(12, 16, 16).numpy()
    expected = zoom(image, FACTORS, order=3, mode="nearest", grid_mode=True)
    found = spline()(torch.as_tensor(image)[None, None])[0, 0].numpy()
    # What lies beyond reaches less far with each voxel, by a factor of 2 - sqrt(3).
    inside = tuple(slice(5 * factor, -5 * factor) for factor in FACTORS)
    np.testing.assert_allclose(found[inside], expected[inside], atol=3e-3)


def test_along_one_line_it_is_the_spline_that_is_level_at_both_ends():
    line = stack(9).numpy()
    places = centres(9, 5)
    known = CubicSpline(np.arange(9.0), line, bc_type="clamped")
    within = (places >= 0) & (places <= 8)
    found = spline_matrix(9, 5).numpy() @ line
    np.testing.assert_allclose(found[within], known(places)[within], atol=1e-12)


def test_splines_go_through_the_voxels_keep_constants_and_are_linear():
    network, image, other = spline(factors=(5, 3, 1)), stack(1, 2, 4, 5, 3), stack(1, 2, 4, 5, 3)
    torch.testing.assert_close(network(image)[:, :, 2::5, 1::3], image)
    torch.testing.assert_close(network(2 * image - other), 2 * network(image) - network(other))
    torch.testing.assert_close(network(torch.ones(1, 1, 4, 5, 3)), torch.ones(1, 1, 20, 15, 3))
    assert not list(network.parameters())
    assert not network.state_dict()


def test_splines_come_nearer_than_straight_lines_to_a_smooth_stack():
    z, y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in (40, 32, 32)), indexing="ij")
    fine = torch.as_tensor(np.sin(0.25 * z) * np.cos(0.5 * y + 0.4) * np.sin(0.6 * x))[None, None]
    coarse = fine[:, :, 2::5]
    inside = (..., slice(8, 32), slice(None), slice(None))
    errors = [
        (build("networks", name, factors=(5, 1, 1))(coarse) - fine)[inside].square().mean()
        for name in ("spline", "interpolation")
    ]
    assert errors[0] < 0.1 * errors[1]


@pytest.mark.parametrize(
    ("builder", "settings", "told"),
    [
        (acnn_sr, {"preset": "tiny"}, "full, small, got 'tiny'"),
        (acnn_sr, {"in_channels": 0}, "at least 1, got 0"),
        (acnn_sr, {"factors": (5, 2)}, r"three of at least 1, got \(5, 2\)"),
        (acnn_sr, {"factors": (5, 2, 0)}, "three of at least 1"),
        (spline, {"factors": (5, 2, 2, 2)}, "spline: factors must be three of at least 1"),
    ],
)
def test_wrong_settings_are_refused(builder, settings, told):
    with pytest.raises(InputError, match=told):
        builder(**settings)


@pytest.mark.parametrize("network", [acnn_sr(preset="small"), spline()], ids=["acnn_sr", "spline"])
def test_single_images_are_refused(network):
    with pytest.raises(InputError, match=r"expected stacks \(b, .*, z, y, x\), got \(1, 1, 8, 8\)"):
        network(torch.rand(1, 1, 8, 8))


def test_other_channels_are_refused():
    with pytest.raises(InputError, match=r"expected stacks \(b, 1, z, y, x\), got"):
        acnn_sr(preset="small")(torch.rand(1, 2, 2, 8, 8))

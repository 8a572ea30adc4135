import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from torch.nn import functional as F

from robustbench_med.certify.lirpa import bound
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.interpolation import interpolation
from robustbench_med.networks.subpixel import espcn

FACTORS = (5, 2, 2)


def centres(length, factor):
    """Where the centres of the thin voxels lie, counted in thick voxels."""
    return (torch.arange(length * factor) + 0.5) / factor - 0.5


def ramp(z, y, x):
    return (0.2 + 0.01 * z[:, None, None] + 0.03 * y[:, None] - 0.02 * x)[None, None]


def awake(**settings):
    """An untrained network whose last layer is not 0."""
    torch.manual_seed(0)
    network = espcn(preset="small", **settings)
    torch.nn.init.normal_(network.third.weight, std=0.05)
    return network.double()


@pytest.mark.parametrize(
    "network",
    [interpolation(), interpolation(in_plane="cubic"), espcn(preset="small")],
    ids=["linear", "cubic", "espcn"],
)
def test_a_straight_ramp_stays_straight_inside(network):
    coarse = ramp(*(torch.arange(length).double() for length in (4, 8, 6)))
    fine = ramp(
        *(centres(length, f).double() for length, f in zip((4, 8, 6), FACTORS, strict=True))
    )
    found = network.double()(coarse)
    assert found.shape == fine.shape == (1, 1, 20, 16, 12)
    inside = (..., slice(3, -3), slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inside], fine[inside], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["interpolation", "espcn"])
def test_untrained_it_is_linear_interpolation_of_voxel_centres(name):
    draw = np.random.default_rng(0)
    image = draw.random((3, 5, 4))
    # Continued beyond the outermost centres by the value there.
    axes = [np.arange(-1, n + 1) for n in image.shape]
    known = RegularGridInterpolator(axes, np.pad(image, 1, mode="edge"))
    where = [centres(n, f).numpy() for n, f in zip(image.shape, FACTORS, strict=True)]
    expected = torch.as_tensor(known(np.stack(np.meshgrid(*where, indexing="ij"), axis=-1)))
    found = build("networks", name).double()(torch.as_tensor(image)[None, None])
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("in_plane", ["linear", "cubic"])
def test_interpolation_averages_back_over_constant_slices_and_has_nothing_to_train(in_plane):
    network = interpolation(in_plane=in_plane)
    flat = torch.arange(3.0)[None, None, :, None, None].expand(2, 1, 3, 6, 6)
    thick = network(flat).unflatten(2, (3, 5)).mean(dim=3)
    torch.testing.assert_close(thick[:, :, 1], torch.ones(2, 1, 12, 12))
    assert not list(network.parameters())
    assert not network.state_dict()


def test_factors_and_kinds_of_interpolation_are_told_apart_by_their_text():
    assert repr(espcn(factors=(5, 2, 2))) != repr(espcn(factors=(2, 5, 2)))
    texts = {
        repr(interpolation(in_plane=m, factors=f))
        for m in ("linear", "cubic")
        for f in (FACTORS, (3, 1, 1))
    }
    assert len(texts) == 4


def test_full_has_the_papers_widths():
    first, second, third = (64, 3, 5, 5), (32, 64, 3, 3), (20, 32, 3, 3)
    network = espcn()
    shapes = [tuple(p.shape) for p in network.parameters()]
    assert shapes == [first, (64,), second, (32,), third, (20,)]
    assert set(network.state_dict()) == {n for n, _ in network.named_parameters()}


@pytest.mark.parametrize("channels", [1, 2])
def test_espcn_equals_its_paper_written_slice_by_slice(channels):
    network = awake(in_channels=channels)
    image = torch.rand(2, channels, 3, 6, 5, dtype=torch.float64)
    expected = torch.empty(2, channels, 15, 12, 10, dtype=torch.float64)
    for z in range(3):
        three = image[:, :, [max(z - 1, 0), z, min(z + 1, 2)]].flatten(1, 2)
        maps = F.conv2d(three, network.first.weight, network.first.bias, padding=2).relu()
        maps = F.conv2d(maps, network.second.weight, network.second.bias, padding=1).relu()
        maps = F.conv2d(maps, network.third.weight, network.third.bias, padding=1)
        for thin in range(5):
            parts = maps.unflatten(1, (channels, 5, 4))[:, :, thin]
            expected[:, :, 5 * z + thin] = F.pixel_shuffle(parts.flatten(1, 2), 2)
    expected += F.interpolate(image, scale_factor=FACTORS, mode="trilinear")
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize("factors", [(5, 2, 2), (1, 2, 3), [3, 1, 1]])
def test_any_factors_and_numbers_of_slices_are_taken(factors):
    image = torch.rand(2, 1, 1, 4, 6)
    shape = (2, 1, factors[0], 4 * factors[1], 6 * factors[2])
    assert espcn(preset="small", factors=factors)(image).shape == shape
    assert interpolation(factors=factors)(image).shape == shape
    assert interpolation(factors=factors, in_plane="cubic")(image).shape == shape


def test_espcn_learns_what_interpolation_does_not_know():
    torch.manual_seed(0)
    network = espcn(preset="small", factors=(1, 2, 2))
    fine = (torch.rand(8, 1, 2, 3, 3).round()).repeat_interleave(8, 3).repeat_interleave(8, 4)
    coarse = F.avg_pool3d(fine, (1, 2, 2))
    before = F.mse_loss(network(coarse), fine).item()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.mse_loss(network(coarse), fine)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * before


def test_the_fixed_form_of_espcn_computes_the_same():
    network, image = awake().float().eval(), torch.rand(2, 1, 3, 5, 4)
    torch.testing.assert_close(network.fixed(3)(image), network(image), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="fixed for stacks of 2 slices"):
        network.fixed(2)(image)
    with pytest.raises(InputError, match="at least 1, got 0"):
        network.fixed(0)


@pytest.mark.parametrize("method", ["ibp", "crown_ibp", "crown"])
def test_espcn_can_be_bounded(method):
    network = awake().float().requires_grad_(requires_grad=False).eval()
    image = torch.rand(2, 1, 3, 5, 4)
    read = network.fixed(3) if method == "crown" else network
    lower, upper = bound(read, image - 0.01, image + 0.01, method=method)
    for corner in range(40):
        step = 0.01 * (2 * torch.rand_like(image) - 1)
        moved = network(image + (step if corner % 2 else 0.01 * step.sign())).flatten(1)
        assert bool((lower - 1e-6 <= moved).all())
        assert bool((moved <= upper + 1e-6).all())


@pytest.mark.parametrize(
    ("builder", "settings", "told"),
    [(espcn, {"preset": "tiny"}, "full, small, got 'tiny'"),
     (espcn, {"in_channels": 0}, "at least 1, got 0"),
     (espcn, {"factors": (5, 2)}, r"three of at least 1, got \(5, 2\)"),
     (interpolation, {"factors": (5, 2, 0)}, "three of at least 1"),
     (interpolation, {"in_plane": "spline"}, "linear, cubic, got 'spline'")],
)  # fmt: skip
def test_wrong_settings_are_refused(builder, settings, told):
    with pytest.raises(InputError, match=told):
        builder(**settings)


@pytest.mark.parametrize(
    "network", [espcn(preset="small"), interpolation()], ids=["espcn", "linear"]
)
def test_single_images_are_refused(network):
    with pytest.raises(InputError, match=r"expected stacks \(b, .*, z, y, x\), got \(1, 1, 8, 8\)"):
        network(torch.rand(1, 1, 8, 8))

"""Bai's network against its formula, scipy's interpolation, and samples within its bounds."""

import math
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.networks.bai_fcn import BaiFcn, Size, bai_fcn
from robustbench_med.networks.bilinear import Enlarge

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
TINY = Size((4, 6, 8), (1, 2, 2), joined=4, dense=6)


def tiny(norm="batch", classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MADE.settled(BaiFcn(TINY, 1, classes, norm))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_full_has_the_papers_parameters_and_keeps_the_grid(norm):
    with torch.device("meta"):
        network = build("networks", "bai_fcn", norm=norm)
        assert network(torch.empty(20, 1, 192, 192)).shape == (20, 4, 192, 192)
    assert MADE.parameters(network) == 1_985_556


def test_full_learns_from_an_image_of_the_papers_size():
    network = bai_fcn()
    logits = network(torch.rand(1, 1, 192, 192))
    F.cross_entropy(logits, torch.randint(4, (1, 192, 192))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_small_differs_in_depth_and_widths_only_and_fits_in_two_megabytes():
    small = bai_fcn(preset="small")
    with torch.device("meta"):
        full = bai_fcn()
    assert MADE.parameters(small) == 79_084
    assert sum(tensor.nbytes for tensor in small.state_dict().values()) < 2 * 2**20
    assert {type(m) for m in small.modules()} == {type(m) for m in full.modules()}
    assert bai_fcn(preset="small", in_channels=2, classes=3)(torch.rand(2, 2, 24, 16)).shape == (
        2, 3, 24, 16,
    )  # fmt: skip


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_interpolation_is_scipys_and_falls_to_zero_beyond_the_last_value(factor):
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    rows, columns = np.mgrid[: 4 * factor, : 5 * factor] / factor
    for case, channel in np.ndindex(2, 3):
        beyond = np.pad(maps[case, channel].numpy(), ((0, 1), (0, 1)))
        known = RegularGridInterpolator((np.arange(5), np.arange(6)), beyond)
        expected = torch.as_tensor(known((rows, columns)))
        found = Enlarge(factor, 3).double()(maps)[case, channel]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_it_equals_its_figure_written_as_one_formula():
    network = MADE.settled(bai_fcn(preset="small", classes=3).double())
    image = torch.rand(2, 1, 24, 16, dtype=torch.float64)
    state = network.state_dict()

    def unit(name, maps, stride=1):
        weight = state[f"{name}.0.weight"]
        maps = F.conv2d(maps, weight, stride=stride, padding=weight.shape[-1] // 2)
        return MADE.normed(state, f"{name}.1", maps).clamp(min=0)

    def enlarged(maps, factor):
        # Values set apart by zeros, then blurred by a triangle along each axis.
        apart = maps.new_zeros(*maps.shape[:2], *(factor * n for n in maps.shape[2:]))
        apart[..., ::factor, ::factor] = maps
        ramp = torch.bartlett_window(2 * factor + 1, periodic=False, dtype=maps.dtype)[1:-1]
        for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
            kernel = ramp.view(shape).expand(maps.shape[1], -1, -1, -1)
            apart = F.conv2d(apart, kernel, padding="same", groups=maps.shape[1])
        return apart

    maps, joined = image, []
    for level in range(4):
        maps = unit(f"levels.{level}.0", maps, stride=2 if level else 1)
        maps = unit(f"levels.{level}.1", maps)
        joined.append(enlarged(unit(f"reduce.{level}", maps), 2**level))
    maps = unit("head.1", unit("head.0", torch.cat(joined, dim=1)))
    expected = F.conv2d(maps, state["head.2.weight"], state["head.2.bias"])
    torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-6)


def test_an_image_moved_by_the_coarsest_pixel_moves_the_answer():
    network = MADE.settled(bai_fcn(preset="small").double())
    image = torch.rand(1, 1, 112, 112, dtype=torch.float64)
    here, there = network(image), network(image.roll((8, 8), dims=(2, 3)))
    inside = (..., slice(48, 64), slice(48, 64))
    torch.testing.assert_close(there.roll((-8, -8), dims=(2, 3))[inside], here[inside])
    one = network(image.roll((1, 1), dims=(2, 3))).roll((-1, -1), dims=(2, 3))
    assert (one - here)[inside].abs().max() > 1e-3


def test_weights_start_he_normal_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = bai_fcn(preset="small")
    for name, tensor in network.named_parameters():
        if tensor.ndim == 4 and tensor.numel() > 400:
            expected = math.sqrt(2 / tensor[0].numel())
            assert tensor.std().item() == pytest.approx(expected, rel=0.15), name
        elif name.endswith("bias"):
            assert not tensor.any(), name


def test_what_is_not_trained_is_neither_a_weight_nor_forgotten():
    network = bai_fcn(preset="small")
    assert not any("enlarge" in name for name in network.state_dict())
    assert not list(network.enlarge.parameters())
    assert repr(Enlarge(2, 4)) != repr(Enlarge(4, 4))


def test_each_case_is_answered_alone():
    image = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(tiny()(image)[1:2], tiny()(image[1:2]))
    group = tiny("group").train()
    torch.testing.assert_close(group(image)[1:2], group(image[1:2]))


def test_the_traced_graph_computes_the_same():
    network, image = tiny(), torch.rand(2, 1, 16, 16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))


@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_it_can_be_bounded_as_it_is_and_no_sample_escapes(method):
    network = tiny()
    stream = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 16, 16, generator=stream)
    rows = torch.randn(6, 3 * 256, generator=stream) / 28
    lower, upper = bound(network, image - 0.01, image + 0.01, rows, method=method)
    assert lower.isfinite().all()
    assert upper.isfinite().all()
    noise = 2 * torch.rand(400, 1, 16, 16, generator=stream) - 1
    noise = torch.cat([noise, noise.sign(), torch.ones(1, 1, 16, 16)])
    with torch.no_grad():
        found = network(image + 0.01 * noise).flatten(1) @ rows.T
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()
    if method == "crown":  # sampling finds a good part of what the bounds allow
        assert ((found.amax(0) - found.amin(0)) / (upper - lower)).min() > 0.05


def test_group_normalisation_cannot_be_bounded():
    image = torch.rand(1, 1, 16, 16)
    with pytest.raises(UnsupportedError, match="GroupNorm"):
        bound(tiny("group"), image, image + 0.01)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_small_can_be_trained(norm, tmp_path):
    first, last = MADE.learns(bai_fcn, tmp_path, norm=norm)
    assert last < first


@pytest.mark.parametrize(("preset", "multiple"), [("small", 8), ("full", 16)])
def test_it_says_which_multiple_it_needs(preset, multiple):
    with torch.device("meta"):
        network = bai_fcn(preset=preset)
        told = f"multiples of {multiple}, got 100 x 96; crop the images, or pad them to "
        with pytest.raises(InputError, match=f"{told}{math.ceil(100 / multiple) * multiple} x 96"):
            network(torch.empty(1, 1, 100, 96))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "bai_fcn: preset must be one of full, small, got 'tiny'"),
        ({"norm": "none"}, "bai_fcn: norm must be one of batch, group, got 'none'"),
        ({"classes": 0}, "at least 1, got 1 and 0"),
        ({"in_channels": 0}, "at least 1, got 0 and 4"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        bai_fcn(**settings)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 4, 16, 16)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(InputError, match=r"expected images \(b, 1, h, w\), got"):
        tiny()(torch.rand(shape))

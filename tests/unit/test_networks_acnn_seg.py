"""ACNN-Seg against its formula, and samples within its bounds."""

import math
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.networks.acnn_seg import AcnnSeg, acnn_seg

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
NORMS = ("none", "batch", "group")


def built(builder=acnn_seg, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MADE.settled(builder(**settings))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_full_has_the_parameters_it_says_and_keeps_the_grid(norm):
    with torch.device("meta"):
        network = build("networks", "acnn_seg", norm=norm)
        assert network(torch.empty(20, 1, 192, 192)).shape == (20, 4, 192, 192)
    assert MADE.parameters(network) == 1_539_012


def test_full_learns_from_one_image():
    network = acnn_seg()
    logits = network(torch.rand(1, 1, 96, 96))
    F.cross_entropy(logits, torch.randint(4, (1, 96, 96))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_small_differs_in_widths_only_and_fits_in_two_megabytes():
    network = acnn_seg(preset="small")
    with torch.device("meta"):
        full = acnn_seg()
    assert MADE.parameters(network) == 96_756
    assert sum(tensor.nbytes for tensor in network.state_dict().values()) < 2 * 2**20
    assert [type(m) for m in network.modules()] == [type(m) for m in full.modules()]
    two = acnn_seg(preset="small", in_channels=2, classes=3)
    assert two(torch.rand(2, 2, 24, 16)).shape == (2, 3, 24, 16)


def test_it_equals_what_it_is_said_to_be():
    network = built(preset="small", classes=3).double()
    state = network.state_dict()

    def unit(name, maps, stride=1):
        maps = F.conv2d(maps, state[f"{name}.0.weight"], stride=stride, padding=1)
        return MADE.normed(state, f"{name}.1", maps).clamp(min=0)

    image = torch.rand(2, 1, 24, 16, dtype=torch.float64)
    maps, levels = image, []
    for level in range(4):
        maps = unit(f"down.{level}.0", maps, stride=2 if level else 1)
        maps = unit(f"down.{level}.1", maps)
        levels.append(maps)
    for step in range(3):
        weight, bias = state[f"up.{step}.weight"], state[f"up.{step}.bias"]
        # Each coarse voxel becomes 2 x 2 fine ones.
        larger = torch.einsum("bcyx,cduv->bdyuxv", maps, weight).flatten(2, 3).flatten(3, 4)
        maps = unit(f"merge.{step}", larger + bias[:, None, None] + levels[2 - step])
    expected = F.conv2d(maps, state["head.weight"], state["head.bias"])
    torch.testing.assert_close(network(image), expected)


def test_an_image_moved_by_the_coarsest_pixel_moves_the_answer():
    network = built(preset="small").double()
    image = torch.rand(1, 1, 112, 112, dtype=torch.float64)
    here, there = network(image), network(image.roll((8, 8), dims=(2, 3)))
    inside = (..., slice(52, 60), slice(52, 60))
    torch.testing.assert_close(there.roll((-8, -8), dims=(2, 3))[inside], here[inside])
    one = network(image.roll((1, 1), dims=(2, 3))).roll((-1, -1), dims=(2, 3))
    assert (one - here)[inside].abs().max() > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_each_case_is_answered_alone(norm):
    network = built(preset="small", norm=norm).double()
    image = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]))


def test_the_traced_graph_computes_the_same():
    network = built(preset="small").double()
    image = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))


def tiny(norm="batch"):
    return built(lambda: AcnnSeg((3, 4, 5), 1, 3, norm)).requires_grad_(requires_grad=False)


@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_it_can_be_bounded_as_it_is_and_no_sample_escapes(method):
    network, stream = tiny(), torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 8, 8, generator=stream)
    rows = torch.randn(6, 3 * 64, generator=stream) / 14
    lower, upper = bound(network, image - 0.01, image + 0.01, rows, method=method)
    noise = 2 * torch.rand(400, 1, 8, 8, generator=stream) - 1
    found = network(image + 0.01 * torch.cat([noise, noise.sign()])).flatten(1) @ rows.T
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()
    if method == "crown":  # sampling finds a good part of what the bounds allow
        assert ((found.amax(0) - found.amin(0)) / (upper - lower)).min() > 0.05


def test_group_normalisation_cannot_be_bounded():
    image = torch.rand(1, 1, 8, 8)
    with pytest.raises(UnsupportedError, match="GroupNorm"):
        bound(tiny("group"), image, image + 0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_small_can_be_trained(norm, tmp_path):
    first, last = MADE.learns(acnn_seg, tmp_path, norm=norm)
    assert last < first


def test_weights_start_he_normal_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = acnn_seg(preset="small")
    for name, tensor in network.named_parameters():
        if tensor.ndim == 4 and tensor.numel() > 400:
            seen = tensor.shape[0] if name.startswith("up") else tensor[0].numel()
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / seen), rel=0.15), name
        elif name.endswith("bias"):
            assert not tensor.any(), name


def test_it_says_which_multiple_it_needs():
    told = "multiples of 8, got 100 x 96; crop the images, or pad them to 104 x 96"
    with pytest.raises(InputError, match=told):
        acnn_seg(preset="small")(torch.empty(1, 1, 100, 96))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "acnn_seg: preset must be one of full, small, got 'tiny'"),
        ({"norm": "layer"}, "acnn_seg: norm must be one of none, batch, group, got 'layer'"),
        ({"classes": 0}, "at least 1, got 1 and 0"),
        ({"in_channels": 0}, "at least 1, got 0 and 4"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        acnn_seg(**settings)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 4, 16, 16)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(InputError, match=r"expected images \(b, 1, h, w\), got"):
        built(preset="small")(torch.rand(shape))

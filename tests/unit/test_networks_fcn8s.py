"""FCN-8s against its formula, and its first up-sampling against torch's interpolation."""

import math
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.fcn8s import Fcn8s, Size, fcn8s

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
TINY = Size((4, 4, 6, 6, 8), (1, 2, 1, 1, 1), dense=10)


def tiny(norm="none", seed=0):
    """In double precision and evaluation, with scores that are not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Fcn8s(TINY, 2, 3, norm).double()
        for layer in network.score:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
        for layer in network.enlarge:
            nn.init.normal_(layer.weight, std=0.1)
    return MADE.settled(network)


def test_full_has_the_papers_parameters_and_learns_on_the_papers_grid():
    with torch.device("meta"):
        network = build("networks", "fcn8s")
        logits = network(torch.empty(1, 3, 512, 512))
        assert logits.shape == (1, 21, 512, 512)
        logits.sum().backward()
    backbone, dense = 14_714_688, 102_764_544 + 16_781_312  # VGG-16's without its last layer
    scores, enlarging = 21 * (4096 + 512 + 256 + 3), 21 * 21 * (16 + 16 + 256)
    assert MADE.parameters(network) == backbone + dense + scores + enlarging == 134_489_759
    assert sum(MADE.parameters(stage) for stage in network.stages) == backbone
    assert all(p.grad.shape == p.shape for p in network.parameters())


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_norm_takes_the_place_of_each_bias_and_adds_a_scale(norm):
    with torch.device("meta"):
        network = fcn8s(norm=norm)
    convolved = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096
    assert MADE.parameters(network) == 134_489_759 + convolved


def test_small_differs_in_depth_and_widths_only_and_fits_in_two_megabytes():
    small = fcn8s(preset="small")
    with torch.device("meta"):
        full = fcn8s()
    assert sum(tensor.nbytes for tensor in small.state_dict().values()) < 2 * 2**20
    assert {type(m) for m in small.modules()} == {type(m) for m in full.modules()}
    assert fcn8s(preset="small", in_channels=1, classes=4)(torch.rand(2, 1, 64, 32)).shape == (
        2, 4, 64, 32,
    )  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 2])
def test_up_sampling_starts_as_bilinear_interpolation(step):
    layer = fcn8s(preset="small", classes=3).enlarge[step]
    maps = torch.rand(2, 3, 6, 7)
    factor = layer.stride[0]
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = (..., slice(factor, -factor), slice(factor, -factor))  # the rim fades to 0
    torch.testing.assert_close(layer(maps)[inside], expected[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_equals_its_figure_written_as_one_formula(norm):
    network, image = tiny(norm), torch.rand(2, 2, 64, 32, dtype=torch.float64)
    state = network.state_dict()
    step = 2 if norm == "none" else 3

    def unit(name, place, maps):
        weight, bias = state[f"{name}.{place}.weight"], state.get(f"{name}.{place}.bias")
        maps = F.conv2d(maps, weight, bias, padding="same")
        return (maps if norm == "none" else MADE.normed(state, f"{name}.{place + 1}", maps)).relu()

    def scored(index, maps):
        weight, bias = state[f"score.{index}.weight"][:, :, 0, 0], state[f"score.{index}.bias"]
        return torch.einsum("kc,bchw->bkhw", weight, maps) + bias[:, None, None]

    def enlarged(index, maps):
        weight = state[f"enlarge.{index}.weight"]
        rim = weight.shape[-1] // 4
        whole = F.conv_transpose2d(maps, weight, stride=2 * rim)
        return whole[..., rim:-rim, rim:-rim]

    pools = [image]
    for stage, blocks in enumerate(TINY.blocks):
        maps = pools[-1]
        for block in range(blocks):
            maps = unit(f"stages.{stage}", step * block, maps)
        pools.append(maps.unflatten(3, (-1, 2)).amax(4).unflatten(2, (-1, 2)).amax(3))
    dense = unit("dense", step + 1, unit("dense", 0, pools[5]))
    maps = enlarged(0, scored(0, dense)) + scored(1, pools[4])
    maps = enlarged(1, maps) + scored(2, pools[3])
    torch.testing.assert_close(network(image), enlarged(2, maps))


def test_an_image_moved_by_the_coarsest_pixel_moves_the_answer():
    network, image = tiny(), torch.rand(1, 2, 544, 544, dtype=torch.float64)
    here = network(image)
    there = network(image.roll((32, 32), dims=(2, 3))).roll((-32, -32), dims=(2, 3))
    inside = (..., slice(256, 288), slice(256, 288))
    torch.testing.assert_close(there[inside], here[inside])


def test_weights_start_he_normal_scores_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = fcn8s(preset="small")
    for name, tensor in network.named_parameters():
        if name.endswith("bias") or name.startswith("score"):
            assert not tensor.any(), name
        elif not name.startswith("enlarge") and tensor.numel() > 400:
            expected = math.sqrt(2 / tensor[0].numel())
            assert tensor.std().item() == pytest.approx(expected, rel=0.15), name
    assert not network(torch.rand(1, 3, 32, 32)).any()


def test_each_case_is_answered_alone():
    image = torch.rand(3, 2, 32, 32, dtype=torch.float64)
    for norm in ("none", "batch", "group"):
        network = tiny(norm)
        torch.testing.assert_close(network(image)[1:2], network(image[1:2]))


def test_gradients_reach_the_image_and_every_weight():
    network, image = tiny("group"), torch.rand(2, 2, 64, 64, dtype=torch.float64)
    network(image.requires_grad_()).square().sum().backward()
    assert image.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_is_drawn_in_training_only():
    network, image = tiny(), torch.rand(1, 2, 32, 32, dtype=torch.float64)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))


def test_the_traced_graph_computes_the_same():
    network, image = tiny(), torch.rand(2, 2, 32, 64, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_small_can_be_trained(norm, tmp_path):
    first, last = MADE.learns(fcn8s, tmp_path, norm=norm)
    assert last < first


def test_it_says_which_multiple_it_needs():
    with pytest.raises(InputError, match=r"multiples of 32, got 100 x 96; .* pad them to 128 x 96"):
        tiny()(torch.empty(1, 2, 100, 96))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "fcn8s: preset must be one of full, small, got 'tiny'"),
        ({"norm": "layer"}, "fcn8s: norm must be one of none, batch, group, got 'layer'"),
        ({"classes": 0}, "at least 1, got 3 and 0"),
        ({"in_channels": 0}, "at least 1, got 0 and 21"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        fcn8s(**settings)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 2, 4, 32, 32)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(InputError, match=r"expected images \(b, 2, h, w\), got"):
        tiny()(torch.rand(shape))

import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.lenet import lenet
from robustbench_med.networks.unet import unet


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_full_unet_has_the_papers_parameters_and_keeps_the_grid():
    with torch.device("meta"):
        network = unet(preset="full")
        output = network(torch.empty(1, 1, 576, 560))
    assert parameters(network) == 31_030_658
    assert output.shape == (1, 2, 576, 560)


def test_full_lenet_has_the_papers_parameters():
    with torch.device("meta"):
        network = lenet(preset="full")
        output = network(torch.empty(3, 1, 32, 32))
    assert parameters(network) == 61_706
    assert output.shape == (3, 10)


def test_unet_without_arguments_is_the_papers():
    with torch.device("meta"):
        assert parameters(build("networks", "unet")) == 31_030_658
        assert parameters(build("networks", "lenet")) == 61_706


def test_small_presets_are_small():
    assert parameters(unet(preset="small", classes=4)) < 500_000
    assert parameters(lenet(preset="small")) < 10_000


@pytest.mark.parametrize("name", ["unet", "lenet"])
def test_presets_differ_in_widths_and_depth_only(name):
    with torch.device("meta"):
        small, full = (build("networks", name, preset=preset) for preset in ("small", "full"))
    small_kinds, full_kinds = ({type(m).__name__ for m in n.modules()} for n in (small, full))
    assert small_kinds == full_kinds


def test_small_unet_maps_channels_to_classes_on_the_same_grid():
    network = unet(preset="small", in_channels=2, classes=4)
    assert network(torch.rand(2, 2, 24, 16)).shape == (2, 4, 24, 16)


def test_unet_equals_its_figure_written_as_one_formula():
    network = unet(preset="small", classes=3).double()
    image = torch.rand(1, 1, 16, 8, dtype=torch.float64)
    state = network.state_dict()

    def block(prefix, maps):
        for layer in ("0", "2"):
            weight, bias = state[f"{prefix}.{layer}.weight"], state[f"{prefix}.{layer}.bias"]
            maps = F.conv2d(maps, weight, bias, padding=1).clamp(min=0)
        return maps

    skips = [block("first", image)]
    for level in range(3):
        skips.append(block(f"down.{level}", F.max_pool2d(skips[-1], 2)))
    maps = skips.pop()
    for level in range(3):
        up = F.conv_transpose2d(
            maps, state[f"up.{level}.weight"], state[f"up.{level}.bias"], stride=2
        )
        maps = block(f"merge.{level}", torch.cat([skips.pop(), up], dim=1))
    expected = F.conv2d(maps, state["head.weight"], state["head.bias"])
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(("preset", "multiple"), [("small", 8), ("full", 16)])
def test_unet_says_which_multiple_it_needs(preset, multiple):
    with torch.device("meta"):
        network = unet(preset=preset)
        with pytest.raises(InputError, match=f"multiples of {multiple}, got 100 x 96"):
            network(torch.empty(1, 1, 100, 96))


def test_unet_refuses_volumes():
    with pytest.raises(InputError, match=r"\(b, 1, h, w\)"):
        unet(preset="small")(torch.rand(1, 1, 8, 8, 8))


def test_lenet_refuses_images_of_another_size():
    with pytest.raises(InputError, match=r"built for images \(1, 28, 28\), got \(1, 32, 32\)"):
        lenet(size=(28, 28))(torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (33, 47)])
def test_lenet_takes_any_size_from_sixteen(size):
    assert lenet(preset="small", classes=3, size=size)(torch.rand(2, 1, *size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("builder", "settings", "message"),
    [
        (unet, {"preset": "tiny"}, "full, small, got 'tiny'"),
        (unet, {"classes": 0}, "at least 1"),
        (lenet, {"preset": "tiny"}, "full, small, got 'tiny'"),
        (lenet, {"in_channels": 0}, "at least 1"),
        (lenet, {"size": (15, 32)}, "at least 16"),
    ],
)
def test_wrong_settings_are_refused(builder, settings, message):
    with pytest.raises(InputError, match=message):
        builder(**settings)


@pytest.mark.parametrize("builder", [unet, lenet])
def test_same_seed_same_weights_and_another_seed_others(builder):
    def first_weights(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return next(builder(preset="small").parameters())

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


@pytest.mark.parametrize("builder", [unet, lenet])
def test_weights_start_he_normal_and_biases_zero(builder):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = builder(preset="small", in_channels=3)
    for name, tensor in network.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif name.startswith("up."):
            expected = math.sqrt(2 / tensor.shape[0])
            assert tensor.std().item() == pytest.approx(expected, rel=0.1), name
        elif tensor.numel() > 400:
            expected = math.sqrt(2 / tensor[0].numel())
            assert tensor.std().item() == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize(("name", "size"), [("unet", 16), ("lenet", 32)])
def test_the_traced_graph_computes_the_same(name, size):
    network = build("networks", name, preset="small").eval()
    image = torch.rand(2, 1, size, size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))

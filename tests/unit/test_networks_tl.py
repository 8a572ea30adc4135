"""The T-L network against its parts written out, and samples within its bounds."""

import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.label_code import one_hot
from robustbench_med.networks.tl_network import Size, TlNetwork, tl_network

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
FULL, CELLS = (32, 64, 128, 256), 36 * 256


def small(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MADE.settled(tl_network(preset="small", size=(32, 48), **settings))


def test_full_has_the_parameters_it_says_and_keeps_the_grid():
    with torch.device("meta"):
        network = build("networks", "tl_network")
        assert network(torch.empty(20, 1, 96, 96)).shape == (20, 4, 96, 96)
    dense = 64 * CELLS + 64
    encoder = sum(9 * a * b + b for a, b in zip((4, *FULL[:-1]), FULL, strict=True)) + dense
    predictor = encoder - 3 * 9 * 32 + sum(9 * b * b + b for b in FULL)
    decoder = 65 * CELLS + sum(
        4 * a * b + b + 9 * b * b + b for a, b in ((256, 128), (128, 64), (64, 32), (32, 32))
    )
    decoder += 33 * 4
    assert MADE.parameters(network.encoder) == encoder
    assert MADE.parameters(network.predictor) == predictor
    assert MADE.parameters(network.decoder) == decoder
    assert MADE.parameters(network) == encoder + predictor + decoder == 3_718_724


def test_full_learns_from_an_image_of_its_size():
    network = tl_network()
    image, target = torch.rand(1, 1, 96, 96), torch.randint(4, (1, 96, 96))
    code = network.encode(one_hot(target, 4))
    entropy = F.cross_entropy(network.decoder(code), target)
    (entropy + (code - network.predict(image)).square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_small_differs_in_widths_only_and_fits_in_two_megabytes():
    network = tl_network(preset="small")
    with torch.device("meta"):
        full = tl_network()
    assert MADE.parameters(network) == 334_116
    assert sum(tensor.nbytes for tensor in network.state_dict().values()) < 2 * 2**20
    assert [type(m) for m in network.modules()] == [type(m) for m in full.modules()]
    assert small(in_channels=2, classes=3)(torch.rand(2, 2, 32, 48)).shape == (2, 3, 32, 48)


def test_its_parts_equal_what_they_are_said_to_be():
    network = small(classes=3).double()
    state = network.state_dict()
    masks = one_hot(torch.randint(3, (2, 32, 48)), 3).double()
    image = torch.rand(2, 1, 32, 48, dtype=torch.float64)

    def layer(name, maps, of=F.conv2d, **how):
        return of(maps, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def encoded(part, maps, convolutions):
        for level in range(4):
            maps = layer(f"{part}.{level}.0", maps, stride=2, padding=1).clamp(min=0)
            if convolutions == 2:
                maps = layer(f"{part}.{level}.2", maps, padding=1).clamp(min=0)
        return layer(f"{part}.5", maps.flatten(1), of=F.linear)

    maps = layer("decoder.0", encoded("predictor", image, 2), of=F.linear).clamp(min=0)
    maps = maps.reshape(2, 32, 2, 3)
    for level in range(3, 7):
        maps = layer(f"decoder.{level}.0", maps, of=F.conv_transpose2d, stride=2).clamp(min=0)
        maps = layer(f"decoder.{level}.2", maps, padding=1).clamp(min=0)
    torch.testing.assert_close(network.encode(masks), encoded("encoder", masks, 1))
    torch.testing.assert_close(network(image), layer("decoder.7", maps))
    assert network.encode(masks).shape == network.predict(image).shape == (2, 64)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_each_case_is_answered_alone_and_each_part_is_normalised(norm):
    network = small(norm=norm).double()
    image = torch.rand(3, 1, 32, 48, dtype=torch.float64)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]))
    kinds = [type(m).__name__ for m in network.modules() if "Norm" in type(m).__name__]
    assert len(kinds) == {"none": 0, "batch": 16, "group": 16}[norm]


def test_one_hot_is_one_where_the_class_is():
    target = torch.tensor([[[0, 2], [1, 1]]])
    expected = torch.stack([target == k for k in range(4)], dim=1).float()
    assert torch.equal(one_hot(target, 4), expected)


def test_the_traced_graph_computes_the_same():
    network, image = small().double(), torch.rand(2, 1, 32, 48, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))


@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_it_can_be_bounded_and_no_sample_escapes(method):
    torch.manual_seed(0)
    network = TlNetwork(Size((3, 4), 1), 1, 2, (8, 8)).eval().requires_grad_(requires_grad=False)
    image, rows = torch.rand(1, 1, 8, 8), torch.randn(5, 128) / 12
    lower, upper = bound(network, image - 0.01, image + 0.01, rows, method=method)
    noise = 2 * torch.rand(400, 1, 8, 8) - 1
    found = network(image + 0.01 * torch.cat([noise, noise.sign()])).flatten(1) @ rows.T
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()
    if method == "crown":  # sampling finds a good part of what the bounds allow
        assert ((found.amax(0) - found.amin(0)) / (upper - lower)).min() > 0.05


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "tl_network: preset must be one of full, small, got 'tiny'"),
        ({"norm": "layer"}, "norm must be one of none, batch, group, got 'layer'"),
        ({"classes": 1}, "classes at least 2, got 1 and 1"),
        ({"in_channels": 0}, "at least 1 and classes at least 2, got 0 and 4"),
        ({"size": (100, 96)}, r"multiples of 16, got \[100, 96\]"),
        ({"size": (96,)}, r"size must be height and width, multiples of 16, got \[96\]"),
        ({"size": (0, 96)}, "multiples of 16"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        tl_network(**settings)


@pytest.mark.parametrize("shape", [(1, 2, 32, 48), (1, 1, 48, 32), (1, 32, 48)])
def test_wrong_images_and_segmentations_are_refused(shape):
    with pytest.raises(InputError, match=r"expected images \(b, 1, 32, 48\), got"):
        small()(torch.rand(shape))
    with pytest.raises(InputError, match=r"expected probabilities \(b, 4, 32, 48\), got"):
        small().encode(torch.rand(shape))

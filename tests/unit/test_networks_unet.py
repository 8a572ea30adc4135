"""The U-Net's normalisations; what it is without one is tested in test_networks.py."""

import math
import runpy
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robustbench_med import bound
from robustbench_med.errors import InputError
from robustbench_med.models import load_model
from robustbench_med.networks.normalisation import normalisation
from robustbench_med.networks.unet import UNet, unet
from robustbench_med.training.card import read_card
from robustbench_med.training.network import card_settings

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
DEMO = Path(str(files("robustbench_med.demo"))) / "weights" / "unet.safetensors"


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_norm_takes_the_place_of_each_bias_and_adds_a_scale(norm):
    with torch.device("meta"):
        plain, normed = unet(), unet(norm=norm)
        assert normed(torch.empty(2, 1, 64, 48)).shape == (2, 2, 64, 48)
    behind = 2 * (64 + 128 + 256 + 512 + 1024) + 2 * (512 + 256 + 128 + 64)
    assert MADE.parameters(plain) == 31_030_658
    assert MADE.parameters(normed) == 31_030_658 + behind


def test_without_a_norm_names_and_text_are_those_of_the_weights_that_come_along():
    model = load_model({"use": "unet", "weights": str(DEMO)})
    text = repr(model.network)
    assert "Norm" not in text
    assert text == repr(UNet((16, 32, 64, 128), 1, 4, "none"))
    assert model.network.first[2].bias is not None


def test_a_card_older_than_the_setting_means_the_default():
    card = read_card(DEMO)
    assert "norm" not in card.settings
    assert card_settings(card) == {**card.settings, "norm": "none"}


def test_in_evaluation_batch_normalisation_folds_into_the_convolutions():
    normed = MADE.settled(unet(preset="small", norm="batch").double())
    plain = unet(preset="small").double().eval()
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ConvTranspose2d)
    layers = [module for module in normed.modules() if isinstance(module, kinds)]
    folded = [
        fuse_conv_bn_eval(layer, after) if isinstance(after, nn.BatchNorm2d) else layer
        for layer, after in zip(layers, [*layers[1:], None], strict=True)
        if not isinstance(layer, nn.BatchNorm2d)
    ]
    own = [module for module in plain.modules() if isinstance(module, kinds)]
    for layer, source in zip(own, folded, strict=True):
        layer.load_state_dict(source.state_dict())
    image = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(normed(image), plain(image))


def test_a_group_is_as_many_channels_as_divide_all_sixteen_at_most():
    sizes = {n: n // normalisation("group", n)[0].num_groups for n in (8, 16, 20, 30, 40, 48, 17)}
    assert sizes == {8: 8, 16: 16, 20: 10, 30: 15, 40: 10, 48: 16, 17: 1}
    assert normalisation("none", 8) == []


def test_with_groups_a_case_is_answered_alone_even_in_training():
    image = torch.rand(3, 1, 16, 16)
    network = unet(preset="small", norm="group").train()
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]))
    batch = MADE.settled(unet(preset="small", norm="batch"))
    torch.testing.assert_close(batch(image)[1:2], batch(image[1:2]))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_convolutions_start_he_normal_before_a_norm_too(norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = unet(preset="small", norm=norm)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    for weight in weights[1:-1]:
        assert weight.std().item() == pytest.approx(math.sqrt(2 / weight[0].numel()), rel=0.1)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_small_can_be_trained(norm, tmp_path):
    first, last = MADE.learns(unet, tmp_path, norm=norm)
    assert last < first


def test_with_batch_normalisation_it_can_be_bounded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MADE.settled(UNet((4, 6, 8), 1, 3, "batch"))
    stream = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 8, 8, generator=stream)
    lower, upper = bound(network, image - 0.01, image + 0.01, method="crown")
    noise = 0.02 * torch.rand(200, 1, 8, 8, generator=stream) - 0.01
    found = network(image + noise).flatten(1)
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()


def test_another_norm_is_refused():
    with pytest.raises(InputError, match="unet: norm must be one of none, batch, group, got 'x'"):
        unet(norm="x")

import pytest
import torch
from torch.nn import functional as F

from robustbench_med.certify.lirpa import bound
from robustbench_med.errors import InputError
from robustbench_med.networks.resnet import Block, resnet


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def settled(network, image):
    """The network in evaluation mode, its running statistics those of `image`."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network(image)
    return network.eval()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_full_has_the_papers_parameters(norm):
    with torch.device("meta"):
        assert parameters(resnet(norm=norm)) == 11_689_512
        assert resnet(norm=norm)(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_full_has_the_papers_grids():
    with torch.device("meta"):
        network = resnet()
        maps = network.stem(torch.empty(1, 3, 224, 224))
        shapes = [maps.shape[1:]]
        for block in network.blocks:
            maps = block(maps)
            shapes.append(maps.shape[1:])
    stages = [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert shapes == [(64, 56, 56), *(stage for stage in stages for _ in range(2))]


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("size", [(64, 64), (96, 80), (33, 47)])
def test_small_takes_any_size(norm, size):
    network = resnet(preset="small", in_channels=20, classes=5, norm=norm)
    assert network(torch.rand(2, 20, *size)).shape == (2, 5)
    assert parameters(network) < 200_000


def test_small_equals_its_table_written_as_one_formula():
    image = torch.rand(3, 2, 24, 20, dtype=torch.float64)
    network = settled(resnet(preset="small", in_channels=2, classes=4).double(), image)
    state = network.state_dict()

    def normed(prefix, maps):
        mean, var, scale, shift = (
            state[f"{prefix}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (var + 1e-5).sqrt() * scale + shift

    maps = F.conv2d(image, state["stem.0.weight"], stride=2, padding=1)
    maps = normed("stem.1", maps).clamp(min=0)
    for block in range(6):
        stride = 2 if block in (2, 4) else 1
        name = f"blocks.{block}"
        inner = F.conv2d(maps, state[f"{name}.residual.0.weight"], stride=stride, padding=1)
        inner = normed(f"{name}.residual.1", inner).clamp(min=0)
        inner = F.conv2d(inner, state[f"{name}.residual.3.weight"], padding=1)
        if stride == 2:
            maps = normed(
                f"{name}.shortcut.1", maps[:, :, ::2, ::2].movedim(1, -1)
                .matmul(state[f"{name}.shortcut.0.weight"][:, :, 0, 0].T).movedim(-1, 1),
            )  # fmt: skip
        maps = (maps + normed(f"{name}.residual.4", inner)).clamp(min=0)
    expected = maps.mean(dim=(2, 3)) @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_block_that_adds_nothing_passes_its_input_on(norm):
    block = Block(32, 32, 1, norm)
    torch.nn.init.zeros_(block.residual[-1].weight)
    maps = torch.rand(2, 32, 8, 8)
    assert torch.equal(block(maps), maps)


def test_first_weights_keep_the_signals_size():
    torch.manual_seed(0)
    weight = resnet(preset="full").blocks[0].residual[0].weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_evaluation_repeats_and_regards_each_case_alone():
    image = torch.rand(4, 1, 64, 64)
    network = settled(resnet(preset="small", in_channels=1, classes=3), image)
    torch.testing.assert_close(network(image)[:1], network(image[:1]))
    assert torch.equal(network(image), network(image))
    group = resnet(preset="small", in_channels=1, classes=3, norm="group")  # in training mode
    torch.testing.assert_close(group(image)[:1], group(image[:1]))


@pytest.mark.parametrize("method", ["ibp", "crown_ibp"])
def test_small_can_be_bounded(method):
    image = torch.rand(1, 2, 16, 16)
    network = settled(resnet(preset="small", in_channels=2, classes=3), torch.rand(8, 2, 16, 16))
    lower, upper = bound(network, image - 1e-4, image + 1e-4, method=method)
    for _ in range(20):
        moved = network(image + (2 * torch.rand_like(image) - 1) * 1e-4)
        assert bool((lower <= moved).all())
        assert bool((moved <= upper).all())


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"preset": "tiny"}, "full, small, got 'tiny'"), ({"norm": "layer"}, "batch, group, got"),
     ({"classes": 0}, "at least 1"), ({"in_channels": 0}, "at least 1")],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        resnet(**settings)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 2, 8, 64, 64)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(InputError, match=r"expected images \(b, 2, h, w\), got"):
        resnet(preset="small", in_channels=2)(torch.rand(shape))

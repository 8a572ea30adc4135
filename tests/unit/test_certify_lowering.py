"""What is written out is the network, to rounding; what cannot be written is refused by name."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.lowering_nodes import Writer
from robustbench_med.certify.lowering_tidying import tidied
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.networks.deep_cascade import deep_cascade
from robustbench_med.proofs.evaluation import forward, values
from robustbench_med.proofs.network import LOCAL, Node

built = runpy.run_path(str(Path(__file__).with_name("lowering_fixture.py")))["built"]
EXACT = 1e-12
C, N = 4, 6
MATRIX = torch.randn(N, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
BY_CHANNEL = torch.tensor([0.5, -2.0, 3.0, 1.5], dtype=torch.float64).view(-1, 1, 1)
PRELU = torch.tensor([0.1, 0.3, -0.2, 1.5], dtype=torch.float64)


class Within(nn.Module):
    """A function of maps between two convolutions, as it would stand in a network."""

    def __init__(self, function, axes=2):
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.before = kind(2, C, 3, padding=1)
        self.function = function

    def forward(self, image):
        return self.function(self.before(image))


def image(*shape, seed=0):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def check(network, x, kinds=None):
    found = lowered(network, x)
    assert found.tolerance <= EXACT
    assert found.points >= 10
    # Apart from the points that `lowered` looks at itself.
    seen = image(*x.shape[1:], seed=9).double() * 3
    expected = network.double()(seen)[0].detach().numpy()
    result = values(found.network, seen[0].numpy())
    for node, value in zip(found.network.nodes, result, strict=True):
        assert node.shape == value.shape
        assert set(map(type, (n for numbers in node.settings.values() for n in numbers))) <= {int}
    assert np.abs(result[-1] - expected).max() <= EXACT * (1 + np.abs(expected).max())
    if kinds is not None:
        assert {node.kind for node in found.network.nodes} <= set(kinds)
    return found


def shuffled_in_halves(x):
    first, second = x.chunk(2, dim=1)
    return torch.cat([second, first.neg()], dim=1)


FUNCTIONS = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True) + 1,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "prelu": lambda x: F.prelu(x, PRELU),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.2, 0.3),
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0, 0),
    "clamp": lambda x: x.clamp(-0.1, 0.4),
    "clamp the wrong way round": lambda x: x.clamp(0.4, -0.1),
    "clamp from below": lambda x: x.clamp(min=0.2),
    "clamp from above": lambda x: x.clamp(max=0.2),
    "abs": torch.abs,
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "minimum": lambda x: torch.minimum(x, x.flip(2)),
    "maximum with a constant": lambda x: torch.maximum(x, BY_CHANNEL),
    "minimum with a constant": lambda x: torch.minimum(BY_CHANNEL, x),
    "constants": lambda x: ((x - BY_CHANNEL) / BY_CHANNEL * 2 + 1) / 3,
    "a constant minus": lambda x: 2 - x,
    "add with a factor": lambda x: torch.add(x, x.flip(1), alpha=3),
    "subtract": lambda x: x - x.roll(1, 2),
    "twice the same": lambda x: x + x,
    "neg": lambda x: -x,
    "cat": shuffled_in_halves,
    "cat with a constant": lambda x: torch.cat([x, torch.ones_like(x)], 1),
    "stack": lambda x: torch.stack([x, x.relu()], 1),
    "reshapes": lambda x: x.view(1, 2, 2, N, N).flatten(2, 3).unsqueeze(1).squeeze(1),
    "squeeze away the batch": lambda x: x.squeeze()[None] * 2,
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute the batch": lambda x: x.permute(1, 0, 3, 2).relu().permute(1, 0, 2, 3),
    "transpose": lambda x: x.transpose(1, 3),
    "t": lambda x: x[0, 0].t()[None],
    "slice": lambda x: x[:, 1:3, ::2, -2:],
    "select": lambda x: x[:, -1],
    "index": lambda x: x[:, [2, 0, 0]],
    "index_select": lambda x: x.index_select(2, torch.tensor([3, 1])),
    "split": lambda x: x.split([1, 3], 1)[1] - x.split(3, 1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "narrow": lambda x: x.narrow(2, 1, 3),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "roll all": lambda x: x.roll(3),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "expand": lambda x: x[:, :, None].expand(1, C, 2, N, N),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=3),
    "pad": lambda x: F.pad(x, (1, 0, 2, 1)),
    "crop by padding": lambda x: F.pad(x, (-1, 2)),
    "pad with a constant": lambda x: F.pad(x, (1, 1), value=2.0),
    "replicate": lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "reflect": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "mean over space": lambda x: x.mean((2, 3)),
    "mean over channels": lambda x: x.mean(1, keepdim=True),
    "mean of all": lambda x: x.mean().reshape(1, 1),
    "sum over two axes apart": lambda x: x.sum((1, 3)),
    "centred": lambda x: x - x.mean((2, 3), keepdim=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "avg_pool padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool padded, not counted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool rounded up": lambda x: F.avg_pool2d(x, (4, 5), 4, ceil_mode=True),
    "avg_pool with a divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "avg_pool1d": lambda x: F.avg_pool1d(x[:, 0], 2),
    "adaptive_avg_pool to one": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "adaptive_avg_pool by a factor": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "max_pool": lambda x: F.max_pool2d(x, 2),
    "max_pool overlapping": lambda x: F.max_pool2d(x, (3, 2), (1, 2)),
    "max_pool padded after ReLU": lambda x: F.max_pool2d(x.relu(), 3, 2, 1),
    "max_pool padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool rounded up": lambda x: F.max_pool2d(x, 4, 4, ceil_mode=True),
    "max_pool dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    "max_pool1d": lambda x: F.max_pool1d(x[:, 0], 5, 2),
    "max_pool of one": lambda x: F.max_pool2d(x, 1, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest by a part": lambda x: F.interpolate(x, size=(7, 15)),
    "nearest-exact": lambda x: F.interpolate(x, size=(7, 15), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear by a part": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    "bilinear, aligned": lambda x: F.interpolate(x, (7, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "matmul": lambda x: x @ MATRIX,
    "matmul from the left": lambda x: MATRIX.T @ x,
    "matrix times vector": lambda x: x @ MATRIX[:, 0],
    "linear of many rows": lambda x: F.linear(x, MATRIX.T, MATRIX[0]),
    "einsum": lambda x: torch.einsum("bchw,wd->bdch", x, MATRIX),
    "cases of its own": lambda x: F.conv2d(
        x.reshape(C, 1, N, N), MATRIX.reshape(5, 1, 2, 3), MATRIX[0], 2, 1
    ).reshape(1, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operator_is_written_exactly(name):
    found = check(built(lambda: Within(FUNCTIONS[name])), image(2, N, N))
    assert found.tolerance <= EXACT


@pytest.mark.parametrize(
    "name",
    ["relu", "leaky_relu", "prelu", "clamp", "abs", "avg_pool", "avg_pool padded", "max_pool",
     "max_pool padded after ReLU", "nearest", "pixel_shuffle", "pixel_unshuffle", "two"],
)  # fmt: skip
def test_what_looks_at_neighbours_only_is_written_so(name):
    function = FUNCTIONS.get(name, lambda x: x - x.relu())
    found = check(built(lambda: Within(function)), image(2, N, N), kinds=LOCAL)
    assert {node.kind for node in found.network.nodes} <= set(LOCAL)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_convolution_is_written_exactly(axes, seed):
    stream = np.random.default_rng([axes, seed])
    plain, back = ((nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d),
                   (nn.Conv3d, nn.ConvTranspose3d))[axes - 1]  # fmt: skip
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]

    def many(low, high):
        return tuple(int(n) for n in stream.integers(low, high + 1, axes))

    network = built(
        lambda: nn.Sequential(
            plain(2, 4, many(1, 3), many(1, 2), many(0, 2), many(1, 2), groups=2),
            norm(4), nn.ReLU(), norm(4),
            back(4, 6, many(1, 3), 2, many(0, 1), many(0, 1), 2, True, 1), norm(6), nn.ReLU(),
            plain(6, 3, 1, bias=False),
        ), seed,
    )  # fmt: skip
    found = check(network, image(2, *many(6, 7)))
    # Only the batch norm between ReLU and zeros around may be left.
    assert sum(node.kind == "scale" for node in found.network.nodes) <= 1


@pytest.mark.parametrize(
    ("function", "shape"),
    [(lambda x: F.max_pool3d(x.relu(), 2, 1, 1), (2, 3, 4, 4)),
     (lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False), (2, 3, 4, 4)),
     (lambda x: F.interpolate(x, scale_factor=(1, 2, 2)), (2, 2, 3, 3)),
     (lambda x: F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear"), (2, 2, 3, 3)),
     (lambda x: F.adaptive_avg_pool3d(x, 1), (2, 2, 3, 3))],
)  # fmt: skip
def test_volumes_are_written_exactly(function, shape):
    found = check(built(lambda: Within(function, axes=3)), image(*shape))
    assert found.tolerance <= EXACT


def test_batch_norm_is_folded_and_a_classifier_is_small():
    network = built(
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(),
            nn.Linear(48, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 2),
        )
    )  # fmt: skip
    found = check(network, image(2, 6, 6))
    assert [node.kind for node in found.network.nodes] == [
        "input", "conv", "relu", "reshape", "dense", "relu", "dense",
    ]  # fmt: skip


def test_a_normalisation_at_the_start_stays_as_it_is():
    network = built(lambda: nn.Conv2d(2, 3, 3, padding=1))
    found = check(
        nn.Sequential(Scaled(), network), image(2, 4, 4), kinds=("input", "scale", "conv")
    )
    assert found.network.nodes[1].kind == "scale"


class Scaled(nn.Module):
    def forward(self, x):
        return (x - 0.3) / 0.2


@pytest.mark.parametrize(
    ("head", "name"),
    [(nn.Softmax(1), "softmax"), (nn.Softmax(-3), "softmax"), (nn.LogSoftmax(1), "log_softmax"),
     (nn.Sigmoid(), "sigmoid")],
)  # fmt: skip
def test_a_head_is_left_out_and_said(head, name):
    network = built(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), head))
    found = lowered(network, image(2, 5, 5))
    assert found.head == name
    assert found.tolerance <= EXACT
    assert [node.kind for node in found.network.nodes] == ["input", "conv"]


def test_a_cascade_for_fixed_lines_is_written_exactly():
    mask = (torch.arange(8) % 2).float()[None, :, None].expand(1, 8, 8)
    network = built(lambda: deep_cascade(preset="small").fixed(mask))
    assert check(network, image(2, 8, 8)).tolerance <= EXACT


class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else 2 * x


class Reads(nn.Module):
    def forward(self, x):
        return x * torch.from_numpy(x.detach().numpy())


class Writes(nn.Module):
    def forward(self, x):
        y = x * 1
        y[:, 0].mul_(2)
        return y


def within(function):
    class Made(nn.Module):
        def forward(self, x):
            return function(x)

    return Made()


@pytest.mark.parametrize(
    ("network", "complaint"),
    [(nn.GroupNorm(2, 2), "group_norm.*batch norm"), (nn.LayerNorm(4), "layer_norm"),
     (nn.InstanceNorm2d(2), "instance_norm"), (nn.GELU(), "gelu.*engine only"),
     (nn.ELU(), "elu"), (nn.SiLU(), "silu"), (nn.Tanh(), "tanh"), (nn.Hardswish(), "hardswish"),
     (nn.Softmax(2), "softmax other than"), (nn.Threshold(1, 0), "threshold"),
     (nn.Sequential(nn.Sigmoid(), nn.ReLU()), "sigmoid other than"),
     (nn.Sequential(nn.Softmax(1), Scaled()), "softmax other than"),
     (within(lambda x: x * x), "mul of two values"), (within(lambda x: x @ x), "matmul of two"),
     (within(lambda x: x**2), "pow"), (within(lambda x: x / (1 + x.abs())), "div of two values"),
     (within(lambda x: torch.fft.fft2(x).real), "torch.fft"),
     (within(lambda x: F.dropout(x)), "dropout that is active"),  # noqa: PLW0108
     (within(lambda x: x + torch.rand(4)), "random numbers"),
     (within(lambda x: x.where(x > 0, x * 2)), "gt .a decision"),
     (within(lambda x: x.amax((2, 3))), "amax"), (within(lambda x: x.float()), "one type"),
     (within(lambda x: F.pad(x, (1, 1, 1, 1), mode="circular")), "circular"),
     (within(lambda x: F.max_pool2d(x, 2, 1, 1, 2)), "max_pool with padding and dilation"),
     (within(lambda x: (x, x)), "one tensor"), (within(lambda _: torch.ones(1, 2)), "a constant"),
     (within(lambda x: x * torch.tensor(torch.nan)), "not finite"),
     (Decides(), "decide by the values"), (Reads(), "something else"), (Writes(), "parts of")],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_by_name(network, complaint):
    with pytest.raises(UnsupportedError, match=f"certify: unsupported.*{complaint}"):
        lowered(network.eval(), image(2, 4, 4))


@pytest.mark.parametrize(
    "wrong", [torch.ones(2, 2, 4, 4), torch.ones(1), torch.full((1, 2, 4, 4), torch.inf)]
)
def test_an_image_that_is_no_single_finite_case_is_refused(wrong):
    with pytest.raises(InputError, match="lowered: image"):
        lowered(nn.ReLU(), wrong)


def test_nothing_of_the_callers_is_changed():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state, seen = torch.get_rng_state(), image(2, 5, 5)
    kept = seen.clone()
    found = lowered(network, seen)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seen, kept)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    expected = network.double().eval()(seen.double())[0].detach().numpy()
    assert np.allclose(values(found.network, seen[0].numpy())[-1], expected, atol=1e-12)


def test_tidying_keeps_what_two_read():
    weight, bias = np.ones((1, 1, 1, 1)), np.zeros(1)
    writer = Writer((1, 1, 2, 2))
    layout = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": [1]}
    arrays = {"weight": weight, "bias": bias}
    maps = writer.put("conv", (0,), (1, 2, 2), (1, 1, 2, 2), arrays, **layout)
    last = writer.add(maps, writer.scale(maps, 3.0))
    network = tidied(writer.nodes, last.position)
    assert np.array_equal(values(network, np.ones((1, 2, 2)))[-1], np.full((1, 2, 2), 4.0))


def test_many_cases_are_evaluated_at_once():
    node = Node("along", (0,), (3, 2), {"weight": np.arange(6.0).reshape(2, 3)}, {"axis": (1,)})
    x = np.arange(18.0).reshape(2, 3, 3)
    assert np.array_equal(forward(node, [x]), x @ node.arrays["weight"].T)

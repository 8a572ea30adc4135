"""Every trusted operator is attacked within its bounds, and every other one is refused by name."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.certify.operators import TRUSTED
from robustbench_med.certify.trace import trace
from robustbench_med.errors import UnsupportedError

LOW = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.1
HIGH = LOW + 0.2


class Between(nn.Module):
    """A convolution before and a layer after the operation under test."""

    def __init__(self, operation, channels=4):
        super().__init__()
        self.before, self.operation = nn.Conv2d(1, 4, 3, padding=1), operation
        self.after = nn.Conv2d(channels, 2, 1)
        self.register_buffer("scale", torch.tensor([0.5, 2.0, 1.5, 0.25]).view(1, 4, 1, 1))

    def forward(self, image):
        return self.after(self.operation(self.before(image)))


class Scaled(Between):
    def forward(self, image):
        return self.after(((self.before((image - 0.3) / 0.2) - self.scale) / self.scale).relu())


class Pooled(Between):
    def forward(self, image):
        return self.operation(self.before(image).relu().mean((2, 3)))


class Viewed(Between):
    def forward(self, image):
        middle = self.before(image).relu()
        return self.operation(middle.view(middle.size(0), -1))


SOUND = {
    "relu": lambda: Between(nn.ReLU()),
    "leaky relu": lambda: Between(nn.LeakyReLU(0.3)),
    "tanh": lambda: Between(nn.Tanh()),
    "sigmoid": lambda: Between(nn.Sigmoid()),
    "absolute value": lambda: Between(torch.abs),
    "product": lambda: Between(lambda x: x * x),
    "gated": lambda: Between(nn.SiLU()),
    "strided, dilated, grouped": lambda: Between(
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, 2, padding=2, dilation=2, groups=2), nn.ReLU())
    ),
    "circular padding": lambda: Between(
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    ),
    "transposed": lambda: Between(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2))),
    "batch norm": lambda: Between(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())),
    "average pooling": lambda: Between(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))),
    "average pooling, rest": lambda: Between(nn.Sequential(nn.ReLU(), nn.AvgPool2d(3))),
    "maximum pooling": lambda: Between(nn.MaxPool2d(2)),
    "maximum pooling, rest": lambda: Between(nn.MaxPool2d(3)),
    "maximum pooling, oblong": lambda: Between(nn.MaxPool2d((2, 4))),
    "global average": lambda: Between(nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1))),
    "dropout": lambda: Between(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.5))),
    "normalised by buffers": lambda: Scaled(None),
    "means": lambda: Pooled(nn.Linear(4, 3)),
    "without bias": lambda: Pooled(nn.Linear(4, 3, bias=False)),
    "sum": lambda: Between(lambda x: x.relu().sum(1, keepdim=True), 1),
    "residual": lambda: Between(lambda x: x.relu() + 0.5 * x),
    "difference": lambda: Between(lambda x: x.relu() - x.tanh()),
    "one minus": lambda: Between(lambda x: 1 - (-x).relu()),
    "concatenated": lambda: Between(lambda x: torch.cat([x.relu(), x], 1), 8),
    "sliced": lambda: Between(lambda x: x.relu()[:, 1:3, 2:, :5], 2),
    "split": lambda: Between(lambda x: x.relu().chunk(2, 1)[1], 2),
    "transposed axes": lambda: Between(lambda x: x.relu().transpose(2, 3)),
    "reshaped": lambda: Between(lambda x: x.relu().view(-1, 2, 8, 16), 2),
    "flattened by its size": lambda: Viewed(nn.Linear(256, 3)),
    "pixel shuffle": lambda: Between(nn.Sequential(nn.ReLU(), nn.PixelShuffle(2)), 1),
    "times a matrix": lambda: Between(lambda x: x.relu() @ torch.eye(8).cumsum(0)),
    "squeezed": lambda: Between(
        lambda x: x.relu().mean(1, keepdim=True).squeeze(1).unsqueeze(1), 1
    ),
}
REFUSED = {
    "GroupNorm": lambda: Between(nn.GroupNorm(2, 4)),
    "InstanceNorm": lambda: Between(nn.InstanceNorm2d(4)),
    "Resize": lambda: Between(nn.Upsample(scale_factor=2, mode="bilinear")),
    "Upsample": lambda: Between(nn.Upsample(scale_factor=2)),
    "GELU": lambda: Between(nn.GELU()),
    "Exp": lambda: Between(torch.exp),
    "Pow": lambda: Between(lambda x: x**3),
    "Clip": lambda: Between(nn.ReLU6()),
    "Pad": lambda: Between(lambda x: F.pad(x, (1, 0, 1, 0))),
    "Div of two": lambda: Between(lambda x: x / (x.sigmoid() + 0.1)),
    "MatMul of two": lambda: Between(lambda x: x @ x),
    r"MaxPool with kernel \[3, 3\], stride \[2, 2\]": lambda: Between(nn.MaxPool2d(3, 2)),
    r"MaxPool .* padding \[1, 1\]": lambda: Between(nn.MaxPool2d(2, 2, padding=1)),
    r"AveragePool with kernel \[3, 3\], stride \[2, 2\]": lambda: Between(nn.AvgPool2d(3, 2)),
    r"AveragePool .* padding \[1, 1\]": lambda: Between(nn.AvgPool2d(2, 2, padding=1)),
    "network: its graph": lambda: Between(nn.MaxPool2d(3, ceil_mode=True)),
    "ConvTranspose": lambda: Between(nn.ConvTranspose2d(4, 4, 2, 2, groups=2)),
    # torch's exporter gives up on it with an AssertionError.
    "network: auto-LiRPA says AssertionError": lambda: Between(lambda x: x.roll(3)),
    "network: .*LayerNorm|network: its graph": lambda: Between(nn.LayerNorm([4, 8, 8])),
}


def built(make, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network


def lowest_found(network, rows):
    stream = torch.Generator().manual_seed(1)
    best = torch.full((len(rows),), torch.inf)
    for corner in (True, False):
        noise = torch.rand(len(rows), 1, 8, 8, generator=stream)
        image = LOW + 0.2 * (noise.round() if corner else noise)
        for step in range(20):
            image = image.detach().requires_grad_()
            value = network(image).flatten(start_dim=1).mul(rows).sum(dim=1)
            best = torch.minimum(best, value.detach())
            (slope,) = torch.autograd.grad(value.sum(), image)
            image = image - slope.sign() * 0.07 * 0.85**step
            image = torch.minimum(torch.maximum(image, LOW), HIGH)
    return best


@pytest.mark.parametrize("name", SOUND)
def test_attacks_stay_within_the_bounds_of(name):
    network = built(SOUND[name], 3)
    outputs = network(LOW).numel()
    stream = torch.Generator().manual_seed(2)
    rows = torch.randn(8, outputs, generator=stream)
    found = lowest_found(network, rows)
    for method in ("ibp", "crown_ibp", "crown"):
        lower, _ = bound(network, LOW, HIGH, rows, method=method)
        assert (lower[0] <= found + 1e-5 * (1 + found.abs())).all()
        assert lower.isfinite().all()


def test_every_trusted_operator_occurs_among_those_attacked():
    seen = set()
    for make in SOUND.values():
        nodes = trace(built(make, 3), LOW).graph.children()
        seen |= {type(node).__name__.removeprefix("Bound") for node in nodes}
    assert TRUSTED - seen == set()


@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_that_is_not_trusted_is_refused_by_name(name):
    with pytest.raises(UnsupportedError, match=name):
        trace(built(REFUSED[name], 0), LOW)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_trusted_is_bounded_as_written_out_or_refused_by_name(name):
    network = built(REFUSED[name], 0)
    rows = torch.eye(network(LOW).numel())[:4]
    try:
        lower, _ = bound(network, LOW, HIGH, rows)
    except UnsupportedError as error:
        assert re.search(name, str(error))  # noqa: PT017 (either will do)
    else:
        # One at a time: a roll without an axis goes over the border between cases.
        found = torch.cat([lowest_found(network, row[None]) for row in rows])
        assert (lower[0] <= found + 1e-5 * (1 + found.abs())).all()

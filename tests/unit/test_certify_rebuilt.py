"""A rebuilt network gives every node's value, and its bounds hold and agree with the original's."""

import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.rebuilt import Rebuilt
from robustbench_med.networks.deep_cascade import deep_cascade
from robustbench_med.proofs.evaluation import values

built = runpy.run_path(str(Path(__file__).with_name("lowering_fixture.py")))["built"]


class Then(nn.Module):
    """Maps, a function of them, and a linear end."""

    def __init__(self, function, axes=2):
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.before, self.function = kind(1, 4, 3, padding=1), function

    def forward(self, image):
        return self.function(self.before(image).relu()).flatten(1)[:, ::11]


def image(*shape, seed=0):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def attacked(network, low, high, steps=12):
    """Smallest and largest outputs found by sign steps and at random, `(m,)` each."""
    stream = torch.Generator().manual_seed(1)
    outputs = network(low).numel()
    sides = []
    for sign in (1, -1):
        seen = low + (high - low) * torch.rand(outputs, *low.shape[1:], generator=stream)
        best = torch.full((outputs,), torch.inf)
        for step in range(steps):
            seen = seen.detach().requires_grad_()
            each = sign * torch.stack(
                [network(one[None]).flatten()[i] for i, one in enumerate(seen)]
            )
            best = torch.minimum(best, each.detach())
            (slope,) = torch.autograd.grad(each.sum(), seen)
            seen = seen - slope.sign() * (high - low) / 2 * 0.75**step
            seen = torch.minimum(torch.maximum(seen, low), high)
        sides.append(sign * best)
    return sides


def check_values(network, x):
    written = lowered(network, x).network
    rebuilt = Rebuilt(written, torch.float64)
    seen = x.double() * 2 - 0.5
    found = rebuilt.values(torch.cat([x.double(), seen]))
    assert len(found) == len(written.nodes)
    for value, expected in zip(found, values(written, seen[0].numpy()), strict=True):
        assert value.shape == (2, *expected.shape)
        assert np.abs(value[1].numpy() - expected).max() <= 1e-12 * (1 + np.abs(expected).max())
    assert torch.allclose(rebuilt(x.double()), found[-1][:1], rtol=1e-12, atol=1e-12)
    return written


FUNCTIONS = {
    "residual": lambda x: x - x.roll(1, 1).abs(),
    "leaky_relu": lambda x: F.leaky_relu(x - 0.3, 0.2),
    "clamp": lambda x: x.clamp(0.1, 0.3),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "edge": lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "zeros": lambda x: F.pad(x, (1, 2, 0, 1)) + 1,
    "cat": lambda x: torch.cat([x[:, 1:], x.flip(3)], 1),
    "permute": lambda x: x.permute(0, 3, 1, 2) * 2,
    "mean": lambda x: x - x.mean((2, 3), keepdim=True),
    "dilations": lambda x: F.conv2d(x, KERNEL.to(x), None, (2, 1), (0, 1), (2, 1), 2),
    "transposed": lambda x: F.conv_transpose2d(x, KERNEL.to(x), None, 2, 1, 1, 2, (1, 2)),
    "strides apart": lambda x: F.conv_transpose2d(x, KERNEL.to(x), None, (3, 2), (0, 1), (2, 0)),
}
KERNEL = torch.randn(4, 2, 3, 2, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_value_is_the_networks_and_bounds_hold(name):
    network = built(lambda: Then(FUNCTIONS[name]))
    x = image(1, 6, 6)
    rebuilt = Rebuilt(check_values(network, x))
    low, high = x - 0.05, x + 0.05
    least, most = attacked(network, low, high)
    for method in ("ibp", "crown"):
        lower, upper = bound(rebuilt, low, high, method=method)
        slack = 1e-5 * (1 + max(least.abs().max(), most.abs().max()))
        assert (lower[0] <= least + slack).all()
        assert (upper[0] >= most - slack).all()
        assert lower.isfinite().all()
    # Not only holding: close to what an attack finds.
    assert (upper - lower)[0].sum() <= 3 * (most - least).sum()


@pytest.mark.parametrize(
    ("axes", "function", "shape"),
    [(1, lambda x: F.conv1d(x, KERNEL[:, :, 0].repeat(1, 2, 1).to(x), None, 2, 1, 2), (1, 9)),
     (1, lambda x: F.conv_transpose1d(x, KERNEL[:, :, 0].to(x), None, 3, 1, 1, 2), (1, 5)),
     (3, lambda x: F.conv3d(x, KERNEL[..., None].to(x), None, 1, 1, groups=2), (1, 3, 4, 4)),
     (3, lambda x: F.conv3d(x, KERNEL[..., None].to(x), None, (2, 1, 2), 1, (1, 2, 1), 2),
      (1, 5, 4, 4)),
     (3, lambda x: F.conv_transpose3d(x, KERNEL[..., None].to(x), None, 2, (1, 0, 0), 1, 2),
      (1, 3, 2, 3))],
)  # fmt: skip
def test_other_axes_than_two_are_bounded_too(axes, function, shape):
    network = built(lambda: Then(function, axes))
    x = image(*shape)
    rebuilt = Rebuilt(check_values(network, x))
    low, high = x - 0.05, x + 0.05
    least, most = attacked(network, low, high)
    lower, upper = bound(rebuilt, low, high)
    assert (lower[0] <= least + 1e-5).all()
    assert (upper[0] >= most - 1e-5).all()


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x):
        fine = self.first((x - 0.2) / 0.5).relu()
        coarse = self.up(self.deep(F.avg_pool2d(fine, 2)).relu())
        return self.last(torch.cat([fine, coarse], dim=1).relu())


def classifier():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


def cascade():
    mask = (torch.arange(8) % 2).float()[None, :, None].expand(1, 8, 8)
    return deep_cascade(preset="small").fixed(mask)


@pytest.mark.parametrize(
    ("make", "channels", "method"),
    [(make, channels, method)
     for (make, channels), method in itertools.product(
         [(Skip, 1), (classifier, 1)], ["ibp", "crown_ibp", "crown"])]
    + [(cascade, 2, "crown_ibp")],
)  # fmt: skip
def test_bounds_agree_with_those_of_the_original(make, channels, method):
    network = built(make).double()
    x = image(channels, 8, 8).double()
    rebuilt = Rebuilt(lowered(network, x).network, torch.float64)
    low, high = x - 0.01, x + 0.01
    rows = torch.eye(network(x).numel(), dtype=torch.float64)[::7]
    expected = bound(network, low, high, rows, method=method)
    found = bound(rebuilt, low, high, rows, method=method)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_values_can_be_differentiated():
    network = built(classifier)
    x = image(1, 8, 8).requires_grad_()
    rebuilt = Rebuilt(lowered(network, x.detach()).network)
    (ours,) = torch.autograd.grad(rebuilt.values(x)[-1].sum(), x)
    (theirs,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-5)

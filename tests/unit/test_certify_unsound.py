"""Where auto-LiRPA's own defaults are wrong, by a concrete image; ours hold on the same networks.

The first tests say what is wrong upstream. Once they fail, what `certify/trace.py` does about it
(matrix mode, evaluation mode of the outermost module) may be looked at again.
"""

import copy
import functools

import pytest
import torch
from torch import nn

from robustbench_med import bound
from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.lirpa import SLACK
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.shim import auto_lirpa
from robustbench_med.certify.trace import quiet
from robustbench_med.proofs.check import check
from robustbench_med.proofs.proof import InputSet

EPS = 1 / 255
# Seeds, bound options and what a limit is at least wrong by: CERTIFY.md, section 0, item 1.
BROKEN = [(5, {}, 5e-4), (10, {}, 5e-4), (8, {"sparse_conv_intermediate_bounds": False}, 1e-2)]
ATTACKED = 24  # rows, those where patches mode is furthest off


class Skip(nn.Module):
    """A skip connection around an average pooling and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.mix = nn.Conv2d(8, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        fine = self.first(image).relu()
        coarse = self.up(self.deep(nn.functional.avg_pool2d(fine, 2)).relu())
        return self.last(self.mix(torch.cat([fine, coarse], dim=1)).relu())


def built(make, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


def around(seed):
    centre = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    return centre - EPS, centre + EPS


def upstream(module, low, high, **options):
    """CROWN limits of all outputs, from auto-LiRPA alone: `(m,)` each."""
    engine = auto_lirpa()
    with quiet(torch.float32):
        graph = engine.BoundedModule(module, (low + high) / 2, bound_opts=options)
        norm = engine.PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
        limits = graph.compute_bounds(
            x=(engine.BoundedTensor((low + high) / 2, norm),), method="CROWN"
        )
    return limits[0][0], limits[1][0]


def lowest(network, low, high, rows, steps=20):
    """Images where each row is low, and its values there, in float64: corners and sign steps."""
    network = network.double()
    low, high, rows = low.double(), high.double(), rows.double()
    stream = torch.Generator().manual_seed(0)
    image = torch.lerp(low, high, torch.rand(len(rows), *low.shape[1:], generator=stream).double())
    best, images = torch.full((len(rows),), torch.inf).double(), image.clone()
    for step in range(steps):
        image = image.detach().requires_grad_()
        value = (network(image).flatten(1) * rows).sum(dim=1)
        better = value.detach() < best
        best, images = best.where(~better, value.detach()), images.clone()
        images[better] = image.detach()[better]
        (slope,) = torch.autograd.grad(value.sum(), image)
        near = image - slope.sign() * (high - low) / 3 * 0.85**step
        image = torch.where(slope > 0, low, high) if step % 2 else near.clamp(low, high)
    network.float()
    return images, best


@functools.cache
def case(position):
    """A network with its box, the rows that patches mode has most wrong, and what is reached."""
    seed, options, _ = BROKEN[position]
    network, (low, high) = built(Skip, seed), around(seed)
    lower, upper = upstream(
        nn.Sequential(network, nn.Flatten()).eval(), low, high, conv_mode="patches", **options
    )
    # Sides in turn, to spare time: from below at even outputs, from above at odd ones.
    sign = torch.tensor([1.0, -1.0]).double().repeat(256)
    claimed, rows = torch.where(sign > 0, lower, -upper).double(), torch.diag(sign)
    images, found = lowest(network, low, high, rows, steps=12)
    worst = (claimed - found).topk(ATTACKED).indices
    return network, (low, high), rows[worst], claimed[worst], images[worst], found[worst]


@pytest.mark.parametrize("position", range(len(BROKEN)))
def test_patches_mode_is_broken_by_an_image(position):
    network, (low, high), rows, claimed, images, _ = case(position)
    worst = images[:1]
    assert (low.double() <= worst).all()
    assert (worst <= high.double()).all()
    reached = network.double()(worst).flatten() @ rows[0]
    plain = network.float()(worst.clamp(low, high).float()).flatten().double() @ rows[0]
    network.float()
    wrong = BROKEN[position][2]
    message = "auto-LiRPA's patches mode holds here now: see the docstring of this file"
    assert claimed[0] - reached > wrong, message
    assert claimed[0] - plain > 0.9 * wrong, message  # in the type that was bounded, too


@pytest.mark.parametrize("position", range(len(BROKEN)))
def test_our_limits_hold_on_the_same_networks_under_more_attacks(position):
    network, (low, high), rows, claimed, _, found = case(position)
    more = lowest(network, low, high, rows.repeat(4, 1), steps=30)[1].view(4, -1).amin(dim=0)
    found = torch.minimum(found, more)
    lower, upper = bound(network, low, high, rows.float())
    assert (lower[0] <= found + SLACK * (1 + found.abs())).all()
    assert (claimed[0] - lower[0, 0]) > 0.5 * (claimed[0] - found[0])  # and patches mode is not
    assert (upper[0] >= -lowest(network, low, high, -rows)[1] - SLACK).all()
    # In float64, with every rounding accounted for: no slack at all.
    inputs = InputSet(low[0].double().numpy(), high[0].double().numpy())
    columns = rows.abs().argmax(dim=1, keepdim=True)
    asked = Rows(columns.numpy(), rows.gather(1, columns).numpy())
    written = lowered(network, (low + high) / 2).network
    climbed = climb(written, inputs, asked, Effort("crown", needed=-1e9, close=True))
    assert (climbed.limits <= found.numpy()).all()
    assert (check(written, climbed.proof) >= climbed.limits).all()


def test_a_fresh_wrapper_lets_auto_lirpa_turn_the_network_into_another():
    """It puts all of a module into the outermost one's mode, and leaves it so.

    Its limits are of the network in evaluation mode; the network itself then answers outside.
    """
    network = built(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 3)),
        0,
    )
    network[1].running_mean.fill_(0.5)
    network[1].running_var.fill_(4.0)
    low, high = around(0)
    with torch.no_grad():
        clean = network((low + high) / 2).flatten()
    for module in (network, nn.Sequential(network, nn.Flatten())):
        ours = bound(module, low, high)
        assert not network.training
        assert (ours[0][0] <= clean + SLACK).all()
        assert (clean <= ours[1][0] + SLACK).all()
        assert (ours[1] - ours[0]).max() < 0.1
    inner = copy.deepcopy(network)
    lower, upper = upstream(nn.Sequential(inner, nn.Flatten()), low, high, conv_mode="matrix")
    message = "auto-LiRPA leaves modules in their own mode now: see the docstring of this file"
    assert inner.training, message
    with torch.no_grad():
        other = inner((low + high) / 2).flatten()
    assert torch.maximum(lower - other, other - upper).max() > 0.1, message

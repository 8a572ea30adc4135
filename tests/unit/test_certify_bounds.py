"""Bounds hold against closed forms, exact enumeration and attacks, and `bound` changes nothing."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from robustbench_med import bound
from robustbench_med.certify.lirpa import lowest
from robustbench_med.certify.margin import DenseRows
from robustbench_med.certify.region import Region, box
from robustbench_med.certify.trace import trace
from robustbench_med.errors import InputError, IntegrityError

METHODS = ("ibp", "crown_ibp", "crown")


def built(make, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


def sampled(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def attacked(network, low, high, rows, steps=25):
    """Smallest value found of each row, by sign steps from the centre, a corner and at random."""
    stream = torch.Generator().manual_seed(1)
    best = torch.full((len(rows),), torch.inf, dtype=low.dtype)
    for corner in (None, 0, 1):
        noise = torch.rand(len(rows), *low.shape[1:], generator=stream, dtype=low.dtype)
        noise = (
            noise if corner is None else noise.round() if corner else torch.full_like(noise, 0.5)
        )
        image = low + (high - low) * noise
        for step in range(steps + 1):
            image = image.detach().requires_grad_()
            value = (network(image).flatten(start_dim=1) * rows).sum(dim=1)
            best = torch.minimum(best, value.detach())
            (slope,) = torch.autograd.grad(value.sum(), image)
            image = image - slope.sign() * (high - low) / 3 * 0.85**step
            image = torch.minimum(torch.maximum(image, low), high)
    return best


class Skip(nn.Module):
    """Down, up and a skip connection, as in CERTIFY's counter-example to patches mode."""

    def __init__(self, pool, outputs=2, width=4):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.pool = pool
        self.deep = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.mix = nn.Conv2d(2 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, image):
        fine = self.first(image).relu()
        coarse = self.up(self.deep(self.pool(fine)).relu())
        return self.last(self.mix(torch.cat([fine, coarse], dim=1)).relu())


def mlp(*sizes):
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_network_is_bounded_exactly(method, dtype):
    network = built(lambda: nn.Linear(6, 3), 0).to(dtype)
    centre = sampled(2, 6, dtype=dtype)
    radius = torch.tensor([[0.1], [0.3]], dtype=dtype)
    rows = sampled(4, 3, seed=1, dtype=dtype) - 0.5
    lower, upper = bound(network, centre - radius, centre + radius, rows, method=method)
    weight, bias = rows @ network.weight, rows @ network.bias
    middle, reach = centre @ weight.T + bias, radius * weight.abs().sum(dim=1)
    assert lower.dtype == dtype
    assert torch.allclose(lower, (middle - reach).detach(), atol=1e-6)
    assert torch.allclose(upper, (middle + reach).detach(), atol=1e-6)


@pytest.mark.parametrize("method", ["crown_ibp", "crown"])
def test_a_linear_network_over_an_l2_ball_is_bounded_exactly(method):
    network = built(lambda: nn.Linear(6, 3), 0)
    centre, radius = sampled(1, 6), torch.tensor([0.25])
    around = Region(centre - 0.25, centre + 0.25, centre, radius)
    lower = lowest(trace(network, centre), around, DenseRows(torch.eye(3)), method)
    expected = network(centre)[0] - 0.25 * network.weight.norm(dim=1)
    assert torch.allclose(lower, expected.detach(), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_l2_ball_cut_by_a_box_is_bounded_at_least_as_closely_as_either(method):
    network = built(lambda: mlp(6, 8, 3), 0)
    centre, radius, rows = sampled(1, 6), torch.tensor([0.5]), DenseRows(torch.eye(3))
    low, high = (centre - 0.5).clamp(min=0), (centre + 0.5).clamp(max=1)
    traced = trace(network, centre)
    both = lowest(traced, Region(low, high, centre, radius), rows, method)
    alone = Region(centre - 0.5, centre + 0.5, centre, radius)
    assert (both >= lowest(traced, alone, rows, method) - 1e-6).all()
    assert (both >= lowest(traced, Region(low, high, centre), rows, method) - 1e-6).all()
    points = Region(low, high, centre, radius).points(sampled(2000, 6, seed=3))
    assert (both <= network(points).amin(dim=0) + 1e-6).all()


def exact_minimum(network, low, high, row):
    """Smallest `row @ network(x)` over a box: one linear programme per activation pattern."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    weights = [
        (x.weight.double().numpy(force=True), x.bias.double().numpy(force=True)) for x in layers
    ]
    best = np.inf
    hidden = [len(bias) for _, bias in weights[:-1]]
    for bits in itertools.product((0.0, 1.0), repeat=sum(hidden)):
        patterns = np.split(np.array(bits), np.cumsum(hidden)[:-1])
        slope, offset = np.eye(low.size), np.zeros(low.size)
        above, limit = [], []
        for (weight, bias), on in zip(weights, [*patterns, None], strict=True):
            slope, offset = weight @ slope, weight @ offset + bias
            if on is None:
                break
            sign = 1 - 2 * on  # active: -(slope x + offset) <= 0; inactive: slope x + offset <= 0
            above.append(sign[:, None] * slope)
            limit.append(-sign * offset)
            slope, offset = on[:, None] * slope, on * offset
        found = linprog(
            row @ slope, np.vstack(above), np.concatenate(limit),
            bounds=np.stack([low, high], axis=1), method="highs",
        )  # fmt: skip
        if found.status == 0:
            best = min(best, found.fun + row @ offset)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_range_of_a_tiny_network_lies_within_its_bounds(seed):
    network = built(lambda: mlp(2, 4, 3, 2), seed)
    centre = sampled(1, 2, seed=seed)
    low, high = centre - 0.4, centre + 0.4
    row = np.array([1.0, -1.0])
    corners = low[0].double().numpy(), high[0].double().numpy()
    truth = exact_minimum(network, *corners, row), -exact_minimum(network, *corners, -row)
    previous = np.inf
    for method in METHODS:
        lower, upper = bound(network, low, high, torch.tensor([[1.0, -1.0]]), method=method)
        assert lower.item() <= truth[0] + 1e-6
        assert truth[1] - 1e-6 <= upper.item()
        assert upper - lower <= previous + 1e-6
        if method == "ibp":
            previous = (upper - lower).item()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum"])
@pytest.mark.parametrize("seed", range(4))
def test_attacks_stay_within_the_bounds_of_skip_connected_networks(pool, seed):
    network = built(lambda: Skip(pool), seed)
    centre = sampled(1, 1, 16, 16, seed=seed)
    low, high = centre - 1 / 255, centre + 1 / 255
    border = [0, 5, 15, 16, 112, 240, 255, 256, 300, 511]
    rows = torch.eye(512)[border]
    lower, upper = bound(network, low, high, rows, method="crown")
    found = attacked(network, low, high, torch.cat([rows, -rows]))
    assert (lower[0] <= found[:10] + 1e-6).all()
    assert (-found[10:] <= upper[0] + 1e-6).all()
    assert ((upper[0] - lower[0]) < 3 * (-found[10:] - found[:10])).all()


def test_tighter_methods_are_tighter_on_average():
    network = built(lambda: Skip(nn.MaxPool2d(2)), 5)
    centre = sampled(2, 1, 8, 8)
    widths = []
    for method in METHODS:
        lower, upper = bound(network, centre - 0.01, centre + 0.01, method=method)
        widths.append((upper - lower).mean())
    assert widths[0] > widths[1] > widths[2]


def test_a_network_in_training_mode_is_bounded_in_evaluation_mode():
    network = built(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()), 0)
    network[1].running_mean.fill_(0.3)
    network[1].running_var.fill_(2.0)
    centre = sampled(1, 1, 5, 5)
    expected = bound(network, centre - 0.01, centre + 0.01)
    network.train()
    found = bound(network, centre - 0.01, centre + 0.01)
    assert network.training
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    clean = network.eval()(centre).flatten(start_dim=1)
    assert (found[0] <= clean).all()
    assert (clean <= found[1]).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_the_global_state_stay_as_they_were(training):
    network = built(
        lambda: nn.Sequential(Skip(nn.MaxPool2d(2)), nn.BatchNorm2d(2), nn.Dropout()), 0
    )
    network.train(training)
    network[0].first.bias.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = [parameter.requires_grad for parameter in network.parameters()]
    modules, state = repr(network), torch.get_rng_state()
    centre = sampled(1, 1, 8, 8)
    bound(network, centre - 0.01, centre + 0.01, method="crown")
    assert network.training == training
    assert repr(network) == modules
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in network.parameters()] == frozen
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("method", METHODS)
def test_a_single_image_is_bounded_by_its_own_output(method):
    network = built(lambda: Skip(nn.MaxPool2d(2)), 0)
    image = sampled(1, 1, 8, 8)
    lower, upper = bound(network, image, image, method=method)
    clean = network(image).flatten(start_dim=1)
    assert torch.allclose(lower, clean, atol=1e-5)
    assert torch.allclose(upper, clean, atol=1e-5)


def test_a_case_has_the_same_bounds_alone_and_in_a_batch():
    network = built(lambda: Skip(nn.AvgPool2d(2)), 0)
    centre = sampled(3, 1, 8, 8)
    rows = sampled(3, 2, 128, seed=2) - 0.5
    together = bound(network, centre - 0.02, centre + 0.02, rows)
    for case in range(3):
        one = centre[case : case + 1]
        alone = bound(network, one - 0.02, one + 0.02, rows[case])
        assert torch.equal(alone[0][0], together[0][case])
        assert torch.equal(alone[1][0], together[1][case])


@pytest.mark.parametrize("method", METHODS)
def test_a_small_memory_budget_gives_the_same_bounds_in_more_chunks(method):
    network = built(lambda: Skip(nn.MaxPool2d(2)), 0)
    centre = sampled(1, 1, 8, 8)
    around, rows = box(centre - 0.02, centre + 0.02), DenseRows(sampled(9, 128, seed=2) - 0.5)
    large, small = trace(network, centre), trace(network, centre, budget=40_000)
    assert large.rows_at_once >= 9 > small.rows_at_once
    expected = lowest(large, around, rows, method)
    assert torch.allclose(lowest(small, around, rows, method), expected, atol=1e-5)


def test_bounds_of_an_engine_gone_wrong_are_void():
    network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0)

    class Wrong(nn.Module):
        """Computes one thing on constant images, as when it is traced, and another elsewhere."""

        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, image):
            constant = bool((image == image[:, :1]).all())
            return self.inner(image) if constant else -image[:, :2]

    with pytest.raises(IntegrityError, match="certificate void"):
        bound(Wrong(), torch.zeros(1, 4), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (torch.zeros(2, 4), r"\(r, 3\) or \(2, r, 3\), got \(2, 4\)"),
        (torch.zeros(3, 2, 3), r"got \(3, 2, 3\)"),
        (torch.zeros(3), r"got \(3,\)"),
        (torch.zeros(0, 3), "at least one"),
        (torch.full((1, 3), torch.nan), "finite"),
    ],
)
def test_rows_of_a_wrong_shape_are_refused(rows, problem):
    network = built(lambda: nn.Linear(4, 3), 0)
    with pytest.raises(InputError, match=problem):
        bound(network, torch.zeros(2, 4), torch.ones(2, 4), rows)


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="method must be one of"):
        bound(nn.Linear(4, 3), torch.zeros(1, 4), torch.ones(1, 4), method="magic")


def test_what_the_engine_cannot_read_is_bounded_as_it_is_written_out():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 1),
        ).eval()  # fmt: skip
        image = torch.rand(1, 1, 6, 6)
        seen = image + 0.02 * (2 * torch.rand(500, 1, 6, 6) - 1)
    lower, upper = bound(network, image - 0.02, image + 0.02)
    with torch.no_grad():
        reached = network(seen).flatten(1)
    assert (reached >= lower - 1e-5).all()
    assert (reached <= upper + 1e-5).all()
    spread = reached.amax(dim=0) - reached.amin(dim=0)
    assert (upper - lower)[0].median() < 5 * spread.median()

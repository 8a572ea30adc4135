"""Derived limits are those of auto-LiRPA, by CROWN and by intervals, on the same network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med.certify.lirpa import lowest
from robustbench_med.certify.margin import DenseRows
from robustbench_med.certify.region import box
from robustbench_med.certify.trace import trace
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive, limits
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network, Node, size
from robustbench_med.proofs.proof import Claims, InputSet, Leaf, Proof


def twin(network, shape):
    """Write a torch sequence of convolutions, linear layers and ReLU out."""
    nodes = [Node("input", (), shape)]
    for layer in network:
        last, shape = len(nodes) - 1, nodes[-1].shape
        out = tuple(layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
        arrays = {name: each.numpy(force=True) for name, each in layer.named_parameters()}
        match layer:
            case nn.Linear():
                nodes.append(Node("dense", (last,), out, arrays))
            case nn.ReLU():
                nodes.append(Node("relu", (last,), out))
            case nn.Flatten():
                nodes.append(Node("reshape", (last,), out))
            case nn.AvgPool2d():
                weight = np.tile(np.eye(shape[0])[:, :, None, None] / 4, (1, 1, 2, 2))
                two, none, one = (2, 2), (0, 0), (1, 1)
                settings = {"stride": two, "padding": none, "dilation": one, "groups": (1,)}
                arrays = {"weight": weight, "bias": np.zeros(shape[0])}
                nodes.append(Node("conv", (last,), out, arrays, settings))
            case _:
                kind = "conv" if isinstance(layer, nn.Conv2d) else "conv_transpose"
                names = ["stride", "padding", "dilation"]
                names += ["output_padding"] if kind == "conv_transpose" else []
                settings = {name: tuple(getattr(layer, name)) for name in names}
                settings["groups"] = (layer.groups,)
                nodes.append(Node(kind, (last,), out, arrays, settings))
    return Network(tuple(nodes))


TWINS = {
    "dense": lambda: [nn.Flatten(), nn.Linear(36, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(),
                      nn.Linear(8, 4)],
    "down and up": lambda: [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(),
                            nn.Conv2d(4, 4, 2, stride=2, groups=2), nn.ReLU(),
                            nn.ConvTranspose2d(4, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 2, 3),
                            nn.Flatten()],
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_limits_are_those_of_auto_lirpa(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch_network = nn.Sequential(*TWINS[name]()).double().eval()
        centre = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    network = twin(torch_network, (1, 6, 6))
    low, high = centre - 0.05, centre + 0.05
    inputs = InputSet(low[0].numpy(), high[0].numpy())
    outputs = size(network.nodes[-1].shape)
    rows = np.random.default_rng(0).normal(size=(6, outputs))
    columns = np.tile(np.arange(outputs), (6, 1))
    base = derive(network, inputs)
    found = limits(network, inputs, base, Leaf(0, np.arange(6)), columns, rows)
    plain = check(network, Proof(inputs, Claims(columns, rows, np.full(6, -np.inf))))
    traced, region = trace(torch_network, centre), box(low, high)
    crown, ibp = (
        lowest(traced, region, DenseRows(torch.tensor(rows)), method).numpy()
        for method in ("crown", "ibp")
    )
    assert np.allclose(found, crown, atol=1e-6)
    assert (plain >= ibp - 1e-9).all()
    assert (plain <= found + 1e-6).all()


class Skip(nn.Module):
    """Down, up and a skip connection, where auto-LiRPA's patches mode is unsound (CERTIFY, 0)."""

    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 3, 3, padding=1), nn.AvgPool2d(2)
        self.deep, self.up = nn.Conv2d(3, 3, 3, padding=1), nn.ConvTranspose2d(3, 3, 2, 2)
        self.mix, self.last = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, image):
        fine = self.first(image).relu()
        coarse = self.up(self.deep(self.down(fine)).relu())
        return self.last(self.mix(torch.cat([fine, coarse], dim=1)).relu()).flatten(1)


def written_out(skip, side):
    """The same network; its nodes are those of short sequences, put one after the other."""
    front = twin([skip.first, nn.ReLU()], (1, side, side))
    deep = twin([skip.down, skip.deep, nn.ReLU(), skip.up], (3, side, side))
    last = twin([skip.mix, nn.ReLU(), skip.last, nn.Flatten()], (6, side, side))
    nodes = [*front.nodes]
    for part, after in ((deep, 2), (last, 7)):
        if part is last:
            nodes.append(Node("concat", (2, 6), (6, side, side), {}, {"axis": (0,)}))
        nodes += [replace(node, inputs=(len(nodes) + i - 1 if i else after,))
                  for i, node in enumerate(part.nodes[1:])]  # fmt: skip
    return Network(tuple(nodes))


@pytest.mark.parametrize("seed", range(3))
def test_a_skip_connected_network_has_the_limits_of_auto_lirpa_and_no_point_breaks_them(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        skip = Skip().double().eval()
        centre = torch.rand(1, 1, 8, 8, dtype=torch.float64)
        moved = centre + 0.02 * (2 * torch.randint(0, 2, (500, 1, 8, 8)) - 1)
    network = written_out(skip, 8)
    with torch.no_grad():
        truth = skip(moved).numpy()
    assert np.allclose(values_of_cases(network, moved.numpy())[-1], truth, atol=1e-12)
    inputs = InputSet((centre - 0.02)[0].numpy(), (centre + 0.02)[0].numpy())
    places = np.array([0, 1, 9, 27, 63, 64, 100, 127])
    columns, rows = np.repeat(places, 2)[:, None], np.tile([[1.0], [-1.0]], (8, 1))
    base = derive(network, inputs)
    found = limits(network, inputs, base, Leaf(0, np.arange(16)), columns, rows)
    matrix = torch.zeros(16, 128, dtype=torch.float64)
    matrix[torch.arange(16), torch.tensor(columns[:, 0])] = torch.tensor(rows[:, 0])
    region = box(centre - 0.02, centre + 0.02)
    crown = lowest(trace(skip, centre), region, DenseRows(matrix), "crown").numpy()
    # Ranges met on the way may give a better limit; they do so rarely.
    assert (found >= crown - 1e-6).all()
    assert np.median(np.abs(found - crown)) < 1e-6
    assert (truth @ matrix.numpy().T >= found).all()

"""Small trained classifiers for the tests of attacks."""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng

FOUR = Task("classification", ("a", "b", "c", "d"))


def images(count, size=26, seed=0):
    """Noisy images `(n, 1, size, size)` with a bright spot in one of four corners: the class."""
    stream = torch.Generator().manual_seed(seed)
    target = torch.randint(4, (count,), generator=stream)
    image = 0.5 + 0.12 * torch.randn(count, 1, size, size, generator=stream)
    half, spot = size // 2, size // 4
    for case, corner in enumerate(target.tolist()):
        y, x = (half * part + spot // 2 for part in divmod(corner, 2))
        image[case, 0, y : y + spot, x : x + spot] += 0.12
    return image.clamp(0, 1), target


@cache
def trained(size=26):
    """A convolutional classifier of `images`, trained for a second, and 60 cases it gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(6, 12, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, 4),
        )  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    image, target = images(512, size)
    for step in range(120):
        rows = torch.arange(64) + 64 * (step % 8)
        optimiser.zero_grad()
        F.cross_entropy(network(image[rows]), target[rows]).backward()
        optimiser.step()
    for parameter in network.parameters():
        parameter.grad = None
    model = TorchModel(network, FOUR, (0.0, 1.0))
    image, target = images(200, size, seed=1)
    with torch.no_grad():
        right = (model(image).argmax(dim=1) == target).nonzero().squeeze(1)[:60]
    ids = tuple(f"case-{row}" for row in range(len(right)))
    return model, Batch(ids, image[right], target[right])


def run(attack, model, batch, ball, seed=0):
    return attack(model, batch, ball, CaseRng(seed, "test", batch.case_ids))


@torch.no_grad()
def still_right(model, batch, image):
    return int((model(image, batch.context).argmax(dim=1) == batch.target).sum())

"""Small networks on drawn images: trained naturally, trained against PGD, and masked."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attack_peers.scaled import Scaled
from attack_peers.setting import Setting, frozen
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("classification", ("a", "b", "c", "d", "e", "f"))
CASES, SIDE = 100, 24


def small_networks(folder: Path) -> Iterator[Setting]:
    """Three of them on the same cases; trained ones are kept in the folder."""
    image, target = drawn(CASES, 2)
    batch = Batch(tuple(f"case-{row}" for row in range(CASES)), image, target)
    ball = Ball("linf", 0.03, (0, 1))
    natural = trained(folder / "natural.pt", 0.0)
    adversarial = trained(folder / "adversarial.pt", ball.eps)
    for name, network in (("natural", natural), ("adversarial", adversarial),
                          ("masked", Scaled(natural, 1e3))):  # fmt: skip
        yield Setting(name, frozen(TorchModel(network, TASK, (0, 1))), batch, ball)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a brighter square in one of six places, the class: `(n, 1, 24, 24)`, `(n,)`."""
    stream = torch.Generator().manual_seed(seed)
    target = torch.randint(6, (count,), generator=stream)
    image = 0.5 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=stream)
    for case, place in enumerate(target.tolist()):
        y, x = 12 * (place // 3) + 3, 8 * (place % 3) + 1
        image[case, 0, y : y + 6, x : x + 6] += 0.1
    return image.clamp(0, 1), target


def trained(path: Path, eps: float) -> nn.Module:
    """Train a small network, against PGD where `eps` is above 0; or read it."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 6),
    )  # fmt: skip
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    image, target = drawn(2048, 1)
    optimiser, attack = torch.optim.Adam(network.parameters(), lr=2e-3), Pgd(3, step_size=0.5)
    for step in range(240):
        rows = torch.arange(128) + 128 * (step % 16)
        here, ids = image[rows], tuple(str(row) for row in rows.tolist())
        if eps:
            ball = Ball("linf", eps * min(1, step / 64), (0, 1))
            model = TorchModel(network, TASK, (0, 1))
            here = attack(model, Batch(ids, here, target[rows]), ball, CaseRng(step, "train", ids))
        optimiser.zero_grad()
        F.cross_entropy(network.train()(here), target[rows]).backward()
        optimiser.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network

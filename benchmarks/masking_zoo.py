"""Whether the validity panel flags models that hide their gradients, and leaves honest ones alone.

A small classifier of 16 x 16 images is trained, and hidden behind each trick in turn: its answers
hardly change, yet PGD reports far more robustness than there is. Four honest models, one of them
robust by construction, must not be flagged.

    python benchmarks/masking_zoo.py [--seeds 1 2 3] [--attacks pgd apgd]

Prints one row a model and adds it to benchmarks/results/masking_zoo.json; a training takes about
two minutes.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from attack_peers.scaled import Scaled

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Task
from robustbench_med.engine.validity import Panel, panel, scaled
from robustbench_med.engine.validity_questions import Searches
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

RESULT = Path(__file__).parent / "results" / "masking_zoo.json"
TASK = Task("classification", ("a", "b", "c", "d"))
BALL = Ball("linf", 0.03, bounds=(0.0, 1.0))
SIDE = 16
CASES = 64


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a brighter square in one of four corners, the class: `(n, 1, 16, 16)`, `(n,)`."""
    stream = torch.Generator().manual_seed(seed)
    target = torch.randint(4, (count,), generator=stream)
    image = 0.5 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=stream)
    for case, corner in enumerate(target.tolist()):
        y, x = (8 * part + 2 for part in divmod(corner, 2))
        image[case, 0, y : y + 4, x : x + 4] += 0.13
    return image.clamp(0, 1), target


def convolutional() -> nn.Module:
    """A small network, untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 4),
    )  # fmt: skip


class MaxMin(nn.Module):
    """Sorts pairs of features: keeps distances, which ReLU does not."""

    def forward(self, features: Tensor) -> Tensor:
        """Answer."""
        first, second = features.chunk(2, dim=1)
        return torch.cat([first.maximum(second), first.minimum(second)], dim=1)


def lipschitz() -> nn.Module:
    """Layers with orthogonal rows: no answer moves farther than the image does, under l2."""
    widths = (SIDE * SIDE, 64, 32, 4)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [parametrizations.orthogonal(nn.Linear(before, after)), MaxMin()]
    return nn.Sequential(*layers[:-1])


def trained(
    network: nn.Module, seed: int, *, eps: float = 0.0, scale: float = 1.0, epochs: int = 12
) -> nn.Module:
    """Train on fresh images, against PGD where `eps` is above 0; logits times `scale`."""
    image, target = images(1024, seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    attack = Pgd(steps=3, step_size=0.5)
    for step in range(epochs * 8):
        rows = torch.arange(128) + 128 * (step % 8)
        here = image[rows]
        if eps:
            ids = tuple(str(row) for row in rows.tolist())
            model = TorchModel(network, TASK, (0.0, 1.0))
            ball = Ball("linf", eps * min(1, step / 32), (0.0, 1.0))
            here = attack(model, Batch(ids, here, target[rows]), ball, CaseRng(step, "train", ids))
        optimiser.zero_grad()
        F.cross_entropy(scale * network(here), target[rows]).backward()
        optimiser.step()
    return network.eval().requires_grad_(requires_grad=False)


class Before(nn.Module):
    """A network behind a change of its image."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, image: Tensor) -> Tensor:
        """Answer."""
        answer: Tensor = self.network(self.change(image))
        return answer


class Cut(nn.Module):
    """A network whose graph is cut, with a branch that says nothing left in it."""

    def __init__(self, network: nn.Module, *, branch: bool) -> None:
        super().__init__()
        self.network, self.branch = network, branch

    def forward(self, image: Tensor) -> Tensor:
        """Answer."""
        answer: Tensor = self.network(image.detach())
        return answer + 0 * image.mean() if self.branch else answer


def dropped(image: Tensor) -> Tensor:
    """Dropout that was left on."""
    return F.dropout(image, 0.2, training=True)


def jpeg(image: Tensor) -> Tensor:
    """Round the cosine transform of each block of 4 x 4 to multiples of 0.15."""
    at = torch.arange(4.0)
    basis = torch.cos(torch.pi * (at + 0.5) * at[:, None] / 4) * (0.5**0.5)
    basis[0] = 0.5
    blocks = image.unfold(2, 4, 4).unfold(3, 4, 4)
    rounded = ((basis @ blocks @ basis.T) / 0.15).round() * 0.15
    return (basis.T @ rounded @ basis).permute(0, 1, 2, 4, 3, 5).reshape(image.shape)


def median(image: Tensor) -> Tensor:
    """Round to 16 levels, then take the median of each 3 x 3."""
    padded = F.pad((image * 15).round() / 15, (1, 1, 1, 1), mode="reflect")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(start_dim=4).median(dim=4).values


class Purified(nn.Module):
    """A network that first moves its image to where it is surest, by a search of its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Answer."""
        moved = image.detach()
        guess = self.network(moved).argmax(dim=1)
        for _ in range(2):
            with torch.enable_grad():
                here = moved.detach().requires_grad_()
                doubt = F.cross_entropy(self.network(here), guess, reduction="sum")
                (slope,) = torch.autograd.grad(doubt, here)
            moved = moved - 0.05 * slope.sign()
        answer: Tensor = self.network(image + (moved - image).detach())
        return answer


def honest(seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Models that hide nothing."""
    torch.manual_seed(seed)
    yield "naturally trained", trained(convolutional(), seed)
    yield "adversarially trained", trained(convolutional(), seed, eps=BALL.eps, epochs=12)
    yield "Lipschitz by construction", trained(lipschitz(), seed, scale=8.0, epochs=8)
    yield "linear", trained(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 4)), seed)


def masked(plain: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """One network, hidden in many ways."""
    yield "logits x 1e3", Scaled(plain, 1e3)
    yield "logits x 1e5", Scaled(plain, 1e5)
    yield "input rounded to 16 levels", Before(plain, lambda x: (x * 15).round() / 15)
    yield "x + 0.003 sin(2000 x)", Before(plain, lambda x: x + 0.003 * (2000 * x).sin())
    yield "x + 0.01 sin(500 x)", Before(plain, lambda x: x + 0.01 * (500 * x).sin())
    yield "detached", Cut(plain, branch=False)
    yield "detached, with an empty branch", Cut(plain, branch=True)
    yield "dropout left on", Before(plain, dropped)
    yield "rounded cosine transform", Before(plain, jpeg)
    yield "rounded, then a median filter", Before(plain, median)
    yield "inner optimisation", Purified(plain)


def zoo(seed: int) -> Iterator[tuple[str, bool, nn.Module, nn.Module]]:
    """Yield name, whether it hides its gradients, the network, and a surrogate for it."""
    models = list(honest(seed))
    torch.manual_seed(seed + 100)
    surrogate = trained(convolutional(), seed + 100)
    for name, network in models:
        yield name, False, network, surrogate
    for name, network in masked(models[0][1]):
        yield name, True, network, surrogate


ATTACKS: dict[str, Any] = {"pgd": Pgd(steps=20), "apgd": Apgd(steps=50)}


def examined(network: nn.Module, surrogate: nn.Module, attack: Any, seed: int) -> Panel:  # noqa: ANN401
    """Run the panel on one model."""
    image, target = images(2 * CASES, seed + 1000)
    ids = tuple(f"case-{row}" for row in range(len(image)))
    model = TorchModel(network, TASK, (0.0, 1.0))
    searches = Searches(
        weaker=scaled(attack, 0.25), stronger=scaled(attack, 4), random=RandomSearch,
        black_box=Square(queries=500), surrogate=TorchModel(surrogate, TASK, (0.0, 1.0)),
    )  # fmt: skip
    return panel(model, [Batch(ids, image, target)], attack, BALL, searches, size=CASES, seed=seed)


def row(panel: Panel, *, hides: bool) -> dict[str, Any]:
    """Plain data of a panel; a share that is not asked for is None."""
    return {
        "hides": hides, "n": panel.n, "withstood": panel.withstood, "at_most": panel.at_most,
        "verdict": panel.verdict,
        "checks": {
            check.name: {"says": check.says, "figure": None if check.n == 0 else check.figure}
            for check in panel.checks
        },
    }  # fmt: skip


def main() -> None:
    """Run the panel on the whole zoo, and store what it says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, dict[str, Any]] = {}
    for seed in asked.seeds:
        for name, hides, network, surrogate in zoo(seed):
            for attack in asked.attacks:
                found = examined(network, surrogate, ATTACKS[attack], seed)
                key = f"{attack} {seed}"
                runs.setdefault(key, {})[name] = row(found, hides=hides)
                shares = f"{found.withstood:.2f} {found.at_most:.2f}"
                print(f"{key:7} {name:30} {shares} {found.why}", flush=True)
    # Read only now: another run may have stored its own meanwhile.
    stored = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"runs": {}}
    stored |= {"torch": torch.__version__, "python": platform.python_version(), "ball": str(BALL)}
    stored["runs"] = dict(sorted((stored["runs"] | runs).items()))
    RESULT.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Networks whose limits are looked at: every operator alone, and what networks are made of."""

import itertools
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.components import build

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "unit"
WEIGHTS = ROOT / "robustbench_med" / "weights"
Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Subject:
    """A network to be bounded.

    Attributes:
        family: What the table has a row for.
        name: Within the family.
        make: Builds it, with the random state that its seed sets.
        shape: Of an image.
        eps: Radius of an linf ball, about; for l2 the same per pixel.
        double: Whether it computes in float64 only.
        one_case: Whether it may treat the batch axis as it likes.
    """

    family: str
    name: str
    make: Make
    shape: tuple[int, ...]
    eps: float = 0.05
    double: bool = False
    one_case: bool = False

    def built(self, seed: int) -> nn.Module:
        """Build it in evaluation mode, running statistics as after training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.make()
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not self.trained:
                    module.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
                    module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        network = network.double() if self.double else network
        return network.eval().requires_grad_(requires_grad=False)

    @property
    def trained(self) -> bool:
        """Whether its weights are not random."""
        return self.family == "trained"


class Around(nn.Module):
    """A function between ReLUs: of maps with open signs before it, and open signs after it."""

    def __init__(self, function: Callable[[Tensor], Tensor], axes: int = 2, *, size: int) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.before, self.between = kind(2, 4, 3, padding=1), kind(4, 4, 3, padding=1)
        self.function = function
        self.after = nn.Linear(self._maps(torch.zeros(1, 2, *[size] * axes)).numel(), 5)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(1, 2, *s)` to `(1, 5)`."""
        done: Tensor = self.after(self._maps(image).relu().reshape(1, -1))
        return done

    def _maps(self, image: Tensor) -> Tensor:
        given = self.between(self.before(image).relu())
        # Matrices of the functions are float64.
        return self.function(given.double()).to(image)


class UNet(nn.Module):
    """One level down and up, around a skip connection."""

    def __init__(self, down: nn.Module, up: nn.Module, width: int = 4, *, norm: bool) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, width, 3, padding=1), down
        self.deep = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.up, self.mix = up, nn.Conv2d(2 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, 1, h, w)` to `(b, 2, h, w)`."""
        fine = self.first(image).relu()
        coarse = self.up(self.norm(self.deep(self.down(fine))).relu())
        logits: Tensor = self.last(self.mix(torch.cat([fine, coarse], dim=1)).relu())
        return logits


class Residual(nn.Module):
    """Two blocks with batch norm, the second with a stride, then a mean and classes."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for stride in (1, 2):
            self.blocks.append(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width),
                    nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
                )
            )  # fmt: skip
            self.shortcuts.append(nn.Conv2d(width, width, 1, stride))
        self.last = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, 1, h, w)` to `(b, 4)`."""
        maps = self.first(image).relu()
        for block, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            maps = (block(maps) + shortcut(maps)).relu()
        logits: Tensor = self.last(maps.mean((2, 3)))
        return logits


def perceptron(*sizes: int) -> nn.Module:
    """Linear layers with ReLUs between."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def classifier() -> nn.Module:
    """Train a small network, in a second, to tell the quarter that a bright square lies in."""
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip
    descent = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        images, quarter = 0.3 * torch.rand(64, 1, 12, 12), torch.randint(4, (64,))
        for image, at in zip(images, quarter.tolist(), strict=True):
            top, left = (6 * (at // 2) + torch.randint(3, (1,)), 6 * (at % 2))
            image[0, top : top + 4, left + 1 : left + 5] += 0.5
        descent.zero_grad()
        F.cross_entropy(network(images), quarter).backward()
        descent.step()
    return network


def stored(name: str) -> nn.Module:
    """Build a network that comes trained."""
    path = WEIGHTS / name
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    network: nn.Module = build("networks", about["network"], **about["settings"])
    network.load_state_dict(load_file(path.with_suffix(".safetensors")))
    return network


def cascade() -> nn.Module:
    """Two stages with every other line and the middle measured, on 6 x 6."""
    mask = torch.tensor([1.0, 0, 1, 1, 0, 1])[None, :, None].expand(1, 6, 6)
    network: nn.Module = build("networks", "deep_cascade", preset="small").fixed(mask)
    return network


def functions() -> Iterator[Subject]:
    """Every operator that can be written out, as the tests of that list them, and volumes."""
    family = "operators, written out"
    listed = runpy.run_path(str(TESTS / "test_certify_lowering.py"))["FUNCTIONS"]
    for name, function in listed.items():
        make = _around(function, 2, 6)
        yield Subject(family, name, make, (2, 6, 6), 0.05, double=True, one_case=True)
    for name, (function, axes, size) in MORE.items():
        make = _around(function, axes, size)
        shape = (2, *[size] * axes)
        yield Subject(family, name, make, shape, 0.05, double=True, one_case=True)


def _around(function: Callable[[Tensor], Tensor], axes: int, size: int) -> Make:
    return lambda: Around(function, axes, size=size)


MORE: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False), 3, 4),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, 2), 3, 4),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), 3, 4),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), 3, 3),
    "nearest3d": (lambda x: F.interpolate(x, scale_factor=2), 3, 3),
    "nearest-exact3d": (lambda x: F.interpolate(x, (4, 5, 4), mode="nearest-exact"), 3, 3),
    "replicate3d": (lambda x: F.pad(x, (1, 1, 0, 1, 1, 0), mode="replicate"), 3, 3),
    "reflect3d": (lambda x: F.pad(x, (1, 1, 0, 1, 1, 0), mode="reflect"), 3, 3),
    "linear1d": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), 1, 8),
    "nearest1d": (lambda x: F.interpolate(x, scale_factor=2), 1, 8),
    "nearest-exact1d": (lambda x: F.interpolate(x, 11, mode="nearest-exact"), 1, 8),
    "replicate1d": (lambda x: F.pad(x, (2, 1), mode="replicate"), 1, 8),
    "reflect1d": (lambda x: F.pad(x, (2, 1), mode="reflect"), 1, 8),
    "clamp_min and clamp_max": (lambda x: x.clamp_min(-0.1).clamp_max(0.2), 2, 5),
    "narrow and chunk": (lambda x: x.narrow(1, 0, 3).chunk(2, 2)[0], 2, 5),
    "full_like": (lambda x: torch.cat([x, torch.full_like(x, 0.5), torch.zeros_like(x)], 1), 2, 5),
    "new_ones": (lambda x: x + x.new_ones(5, 5) - 2 * x.new_zeros(5, 5), 2, 5),
    "batch norm": (nn.BatchNorm2d(4).eval().double(), 2, 5),
    "prelu by channel": (nn.PReLU(4, 0.3).double(), 2, 5),
    "transposed": (lambda x: F.conv_transpose2d(x, KERNEL, stride=2, padding=1), 2, 5),
    "transposed, dilated": (lambda x: F.conv_transpose2d(x, KERNEL, None, 3, 0, 1, 1, 2), 2, 4),
    "strided, grouped": (lambda x: F.conv2d(x, KERNEL[:, :2], None, 2, 1, 1, 2), 2, 6),
}
KERNEL = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(7)).double() / 3


def subjects() -> Iterator[Subject]:
    """List all of them."""
    yield from functions()
    listed = runpy.run_path(str(TESTS / "test_certify_operators.py"))["SOUND"]
    for name, make in listed.items():
        yield Subject("operators of auto-LiRPA", name, make, (1, 8, 8))
    for name, (down, up) in LEVELS.items():
        for norm in (False, True):
            network = _unet(down, up, norm=norm)
            yield Subject("U-Nets", f"{name}{', batch norm' * norm}", network, (1, 16, 16), 1 / 255)
    yield Subject("residual networks", "two blocks", Residual, (1, 10, 10), 0.02)
    yield Subject("random perceptrons", "6-20-20-4", lambda: perceptron(6, 20, 20, 4), (6,), 0.1)
    yield Subject("fixed cascade", "two stages", cascade, (2, 6, 6), 0.01)
    yield Subject("trained", "classifier", classifier, (1, 12, 12), 0.03)
    shapes: dict[str, Any] = {
        "mlp": (11,), "espcn": (1, 3, 6, 6), "plain_fcn": (1, 20, 20),
    }  # fmt: skip
    for name, shape in shapes.items():
        yield Subject("trained", name, _stored(name), shape, 2 / 255)


LEVELS: dict[str, tuple[Make, Make]] = {
    "average pooling, transposed": (
        lambda: nn.AvgPool2d(2), lambda: nn.ConvTranspose2d(4, 4, 2, 2)),
    "maximum pooling, transposed": (
        lambda: nn.MaxPool2d(2), lambda: nn.ConvTranspose2d(4, 4, 2, 2)),
    "stride, transposed": (
        lambda: nn.Conv2d(4, 4, 2, 2), lambda: nn.ConvTranspose2d(4, 4, 4, 2, 1)),
    "average pooling, nearest": (
        lambda: nn.AvgPool2d(2), lambda: nn.Upsample(scale_factor=2)),
    "maximum pooling, bilinear": (
        lambda: nn.MaxPool2d(2), lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
}  # fmt: skip


def _unet(down: Make, up: Make, *, norm: bool) -> Make:
    return lambda: UNet(down(), up(), norm=norm)


def _stored(name: str) -> Make:
    return lambda: stored(name)

"""The networks that the benchmark trains: seconds each, the same every time."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from certify_parts.drawn import discs_and_rings
from robustbench_med.networks.fixed_cascade import FixedCascade

FCN_SIZE, UNET_SIZE, CASCADE_SIZE = 64, 32, 16
_TRAINING, BOUNDS = 1, (0.0, 1.0)
DIGITS_TRAINED_ON, DIGITS_EPS = 1400, 0.1


class StridedUNet(nn.Module):
    """Two levels: a strided convolution down, a transposed one up, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 2, stride=2)
        self.deep, self.up = nn.Conv2d(16, 16, 3, padding=1), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, 1, h, w)` to logits `(b, 3, h, w)`."""
        fine = self.first(image).relu()
        coarse = self.deep(self.down(fine).relu()).relu()
        both = torch.cat([fine, self.up(coarse)], dim=1)
        logits: Tensor = self.head(self.last(both).relu())
        return logits


def fcn(folder: Path, *, quick: bool) -> nn.Module:
    """Four 3 x 3 convolutions of 8 channels, three classes, trained on attacked images."""
    torch.manual_seed(0)
    widths = (1, 8, 8, 8)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1))
    data = discs_and_rings(16 if quick else 96, _TRAINING, FCN_SIZE)
    return _kept(folder / "fcn.pt", network, data, 10 if quick else 240, 2 / 255)


def strided_unet(folder: Path, *, quick: bool) -> nn.Module:
    """A small U-Net on the same kind of images, trained the same way."""
    torch.manual_seed(1)
    data = discs_and_rings(16 if quick else 192, _TRAINING, UNET_SIZE)
    return _kept(folder / "unet.pt", StridedUNet(), data, 10 if quick else 300, 2 / 255)


def digits() -> tuple[Tensor, Tensor]:
    """All digits, `(n, 1, 8, 8)` of 0 to 1, and their classes, in a fixed random order."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    image = torch.from_numpy(data.images[order] / 16).float()[:, None]
    return image, torch.from_numpy(data.target[order])


def digits_classifier(folder: Path, *, quick: bool) -> nn.Module:
    """Two convolutions of 8 channels and a hidden layer of 32, trained on attacked digits."""
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 4, stride=2, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    image, target = (each[:DIGITS_TRAINED_ON] for each in digits())
    return _kept(folder / "digits.pt", network, (image, target), 60 if quick else 1500, DIGITS_EPS)


def cascade(folder: Path, *, quick: bool) -> tuple[nn.Module, Tensor]:
    """Two blocks with data consistency on half of the lines, and measured k-space held out.

    Returns:
        The network on `(b, 2, 16, 16)`, and one case `(1, 2, 16, 16)`.
    """
    torch.manual_seed(3)
    mask = torch.zeros(CASCADE_SIZE, CASCADE_SIZE)
    mask[::3] = 1
    mask[CASCADE_SIZE // 2 - 2 : CASCADE_SIZE // 2 + 2] = 1
    blocks = nn.ModuleList(
        nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
                      nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1))
        for _ in range(2)
    )  # fmt: skip
    network = FixedCascade(blocks, mask, 1.0)
    image = discs_and_rings(16 if quick else 256, _TRAINING, CASCADE_SIZE)[0]
    whole = torch.cat([image, torch.zeros_like(image)], dim=1)
    centred = torch.fft.ifftshift(image[:, 0].to(torch.complex64), dim=(-2, -1))
    spectrum = torch.fft.fftshift(torch.fft.fft2(centred, norm="ortho"), dim=(-2, -1)) * mask
    measured = torch.stack([spectrum.real, spectrum.imag], dim=1)
    data = measured[1:], whole[1:]
    found = _kept(folder / "cascade.pt", network, data, 10 if quick else 300, 0.0, F.mse_loss)
    return found, measured[:1]


def _kept(
    path: Path, network: nn.Module, data: tuple[Tensor, Tensor], steps: int, eps: float,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> nn.Module:  # fmt: skip
    """Train, or read what an earlier call trained."""
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval().requires_grad_(requires_grad=False)
    image, target = data
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        some = torch.randint(len(image), (min(len(image), 8 if image.shape[-1] > 32 else 64),))
        seen = _attacked(network, image[some], target[some], eps, loss) if eps else image[some]
        optimiser.zero_grad()
        loss(network(seen), target[some]).backward()
        optimiser.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network.eval().requires_grad_(requires_grad=False)


def _attacked(
    network: nn.Module, image: Tensor, target: Tensor, eps: float,
    loss: Callable[[Tensor, Tensor], Tensor], steps: int = 4,
) -> Tensor:  # fmt: skip
    moved = image + eps * (2 * torch.rand_like(image) - 1)
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(network(moved), target), moved)
        moved = moved + 0.5 * eps * slope.sign()
        moved = torch.minimum(torch.maximum(moved, image - eps), image + eps).clamp(*BOUNDS)
    return moved.detach()

"""Classification forest: every pixel by itself, from what surrounds it near and far.

It learns in one go, not by steps along a gradient: `fit_forest` grows the trees with
scikit-learn and keeps them as tensors, which need no scikit-learn to answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError

TASK = "segmentation"
Preset = Literal["full", "small"]
LEAST_SHARE = 1e-7  # of a class, so that its logarithm is finite
HOW = "fit it with: python examples/systems/fit_forest.py PLAN"


@dataclass(frozen=True)
class Size:
    """Number of trees, most leaves of each, and half edges of the boxes in pixels."""

    trees: int
    leaves: int
    boxes: tuple[int, ...]


SIZES: dict[Preset, Size] = {
    "full": Size(100, 8192, (1, 2, 4, 8, 16)),
    "small": Size(20, 1536, (1, 2, 4, 8)),
}


def forest(*, preset: Preset = "full", in_channels: int = 1, classes: int = 2) -> "Forest":
    """Build a forest that maps `(b, c, h, w)` to log-probabilities `(b, k, h, w)`, trees empty.

    Args:
        preset: "full" is 100 trees of at most 8192 leaves: 2,457,500 thresholds and shares for two
            classes. "small" differs in sizes only: 20 trees of 1536.
        in_channels: Channels of the image.
        classes: Channels of the output.

    Raises:
        InputError: If preset is unknown or a count is below 1.

    Source: extremely randomised trees, Geurts et al., Machine Learning 63 (2006); as one of the
    systems that Lavdas et al., Medical Physics 44(10), 2017, compare.
    Deviations: that paper's trees, features and sizes could not be confirmed; all are ours. Slices,
    not volumes.
    """
    if preset not in SIZES:
        raise InputError(f"forest: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    if in_channels < 1 or classes < 1:
        raise InputError(
            f"forest: in_channels and classes must be at least 1, got {in_channels} and {classes}"
        )
    return Forest(SIZES[preset], in_channels, classes)


class Forest(nn.Module):
    """See `forest`, which builds it.

    A tree's inner nodes are numbered from its root, 0. Below node `i` a value of feature
    `feature[i]` up to `threshold[i]` goes to `child[i, 0]`, any other to `child[i, 1]`: an inner
    node, or, where negative, the leaf `-1 - child`. A leaf has a share of each class. What a tree
    does not need stays 0.
    """

    feature: Tensor
    child: Tensor

    def __init__(self, size: Size, in_channels: int, classes: int) -> None:
        super().__init__()
        self.size, self.in_channels, self.classes = size, in_channels, classes
        inner = (size.trees, max(size.leaves - 1, 1))
        self.register_buffer("feature", torch.zeros(inner, dtype=torch.int32))
        self.register_buffer("child", torch.full((*inner, 2), -1, dtype=torch.int32))
        self.threshold = nn.Parameter(torch.zeros(inner), requires_grad=False)
        share = torch.zeros(size.trees, size.leaves, classes)
        self.share = nn.Parameter(share, requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to log-probabilities `(b, k, h, w)`, which have no gradient.

        Raises:
            InputError: If the image has another number of channels, or the forest is empty or in
                training mode.
        """
        self.check(image)
        if self.training:
            raise InputError(f"forest: learns from all cases at once, not by steps; {HOW}")
        if not self.share[0, 0].any():
            raise InputError(f"forest: has no trees yet; {HOW}")
        with torch.no_grad():
            pixels = features(image, self.size.boxes).permute(0, 2, 3, 1)
            shares = self.shares(pixels.flatten(end_dim=2))
            log = shares.clamp(min=LEAST_SHARE).log().view(*pixels.shape[:3], -1)
            return log.permute(0, 3, 1, 2).contiguous()

    def shares(self, pixels: Tensor) -> Tensor:
        """Mean share of each class over the trees, `(n, k)`, from features `(n, f)`."""
        total = pixels.new_zeros(len(pixels), self.classes)
        for tree in range(self.size.trees):
            node = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
            inside = torch.arange(len(pixels), device=pixels.device)
            while len(inside):
                at = node[inside]
                value = pixels[inside, self.feature[tree][at].long()]
                side = (value > self.threshold[tree][at]).long()
                after = self.child[tree][at, side].long()
                node[inside] = after
                inside = inside[after >= 0]
            total += self.share[tree][-1 - node]
        return total / self.size.trees

    def check(self, image: Tensor) -> None:
        """Refuse what are no images of this forest's channels."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise InputError(
                f"forest: expected images (b, {self.in_channels}, h, w), got {tuple(image.shape)}"
            )


def features(image: Tensor, boxes: Sequence[int]) -> Tensor:
    """What a tree may ask of each pixel.

    Args:
        image: `(b, c, h, w)`; 0 beyond its border.
        boxes: Half edge `r` of each box in pixels: it spans `2 r + 1`.

    Returns:
        `(b, f, h, w)` in float32, `f = 2 + c + 9 c len(boxes)`: place of row and column, -1 to 1;
        the intensities; and for each box the mean around the pixel and around each of its eight
        neighbours a box away, rows first.
    """
    height, width = image.shape[-2:]
    places = torch.meshgrid(
        *((2 * torch.arange(n, device=image.device) + 1.0) / n - 1 for n in (height, width)),
        indexing="ij",
    )
    found = [torch.stack(places).expand(len(image), -1, -1, -1), image.float()]
    rim = max((3 * half + 1 for half in boxes), default=0)
    # Sums over all pixels above and to the left: four of them make the sum over any box.
    padded = F.pad(image.detach().double(), (rim + 1, rim, rim + 1, rim))
    sums = padded.cumsum(dim=2).cumsum(dim=3)
    for half in boxes:
        edge = 2 * half + 1
        for down in (-edge, 0, edge):
            for across in (-edge, 0, edge):
                top, left = rim + down - half, rim + across - half
                rows = [sums[:, :, start : start + height] for start in (top, top + edge)]
                strip = rows[1] - rows[0]
                columns = [strip[..., start : start + width] for start in (left, left + edge)]
                found.append(((columns[1] - columns[0]) / edge**2).float())
    return torch.cat(found, dim=1)

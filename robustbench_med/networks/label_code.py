"""A segmentation or an image as a short vector, and the segmentation back from it."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import Norm, normalisation

Grid = tuple[int, int]


def encoder(
    channels: int,
    widths: Sequence[int],
    grid: Grid,
    code: int,
    *,
    norm: Norm,
    convolutions: int = 1,
) -> nn.Sequential:
    """Build what maps `(b, channels, h, w)` to codes `(b, code)`, linear at its end.

    Each level halves the grid by a strided convolution, so that it is convolutions and ReLU only.

    Args:
        channels: Of the maps.
        widths: Channels of each level, finest first.
        grid: Height and width, see `coarsest`.
        code: Length of the vector.
        norm: What follows each convolution, see `normalisation`.
        convolutions: Of each level, the strided one counted.
    """
    levels = [
        nn.Sequential(
            *_convolution(before, after, norm, stride=2),
            *(layer for _ in range(convolutions - 1) for layer in _convolution(after, after, norm)),
        )
        for before, after in itertools.pairwise((channels, *widths))
    ]
    dense = nn.Linear(widths[-1] * math.prod(coarsest(grid, widths)), code)
    built = nn.Sequential(*levels, nn.Flatten(), dense)
    built.apply(_initialise)
    nn.init.normal_(dense.weight, std=dense.in_features**-0.5)  # no ReLU follows
    return built


def decoder(
    classes: int, widths: Sequence[int], grid: Grid, code: int, *, norm: Norm
) -> nn.Sequential:
    """Build what maps codes `(b, code)` to logits `(b, classes, h, w)`; arguments as `encoder`.

    Each level doubles the grid by a transposed convolution whose kernel is its stride.
    """
    rows, columns = coarsest(grid, widths)
    narrowing = [*reversed(widths), widths[0]]
    levels = [
        nn.Sequential(
            nn.ConvTranspose2d(before, after, kernel_size=2, stride=2),
            nn.ReLU(),
            *_convolution(after, after, norm),
        )
        for before, after in itertools.pairwise(narrowing)
    ]
    built = nn.Sequential(
        nn.Linear(code, widths[-1] * rows * columns),
        nn.ReLU(),
        Folded((widths[-1], rows, columns)),
        *levels,
        nn.Conv2d(widths[0], classes, kernel_size=1),
    )
    built.apply(_initialise)
    return built


class Folded(nn.Module):
    """Vectors as maps; `nn.Unflatten` does the same, but bounds cannot read it."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: Tensor) -> Tensor:
        """Map `(b, n)` to `(b, c, h, w)`."""
        return values.reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        """Tell what the weights do not; the model's digest reads it."""
        return f"shape={self.shape}"


def coarsest(grid: Grid, widths: Sequence[int]) -> Grid:
    """Rows and columns that are left after one halving for each of `widths`."""
    return grid[0] // 2 ** len(widths), grid[1] // 2 ** len(widths)


def check_grid(network: str, size: Sequence[int], levels: int) -> Grid:
    """Return `size` as a grid that can be halved `levels` times.

    Raises:
        InputError: If it is not two such numbers.
    """
    multiple = 2**levels
    if len(size) != 2 or any(type(n) is not int or n < 1 or n % multiple for n in size):
        raise InputError(
            f"{network}: size must be height and width, multiples of {multiple}, got {list(size)}"
        )
    return size[0], size[1]


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Class indices `(b, *s)` as probabilities `(b, k, *s)` of 0 and 1."""
    # Contiguous, as the probabilities that it is held against are: convolutions then agree.
    return F.one_hot(target.long(), classes).movedim(-1, 1).float().contiguous()


def _convolution(before: int, after: int, norm: Norm, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=norm == "none"),
        *normalisation(norm, after),
        nn.ReLU(),
    ]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.ConvTranspose2d):
        # Stride equals kernel: each output voxel sees one voxel per channel.
        nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
    elif isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)

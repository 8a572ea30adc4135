"""A multi-layer perceptron: decisions from clinical measures, or from any other vector."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError

TASK = "classification"
BOUNDED_BY = "ibp, crown_ibp, crown"
Preset = Literal["full", "small"]
WIDTHS: dict[Preset, tuple[int, ...]] = {"full": (256, 256), "small": (32, 32)}


def mlp(
    *,
    preset: Preset = "full",
    in_channels: int = 10,
    classes: int = 5,
    size: Sequence[int] = (),
    dropout: float = 0.0,
) -> "Mlp":
    """Build a perceptron of two hidden layers, which maps `(b, c, *s)` to logits `(b, k)`.

    It standardises nothing: measures of different units should come scaled, for example by the
    normal range, or the largest alone will be learned from.

    Args:
        preset: "full" has hidden layers of 256, "small" of 32. Both are this project's choice,
            there is no paper: 69,893 and 1,573 parameters for ten measures and five classes.
        in_channels: Measures, or channels of the image.
        classes: Number of logits.
        size: Lengths of the spatial axes; none for a vector `(b, c)`.
        dropout: Share of hidden values that training leaves out.

    Raises:
        InputError: If the preset is unknown, a count is below 1 or dropout not in [0, 1).

    Source: Rumelhart et al., Nature 323 (1986), DOI 10.1038/323533a0; ReLU, and weights that
    start He-normal, biases 0: He et al., ICCV 2015, arXiv:1502.01852.
    """
    if preset not in WIDTHS:
        raise InputError(f"mlp: preset must be one of {', '.join(WIDTHS)}, got {preset!r}")
    if min(in_channels, classes, *size) < 1:
        raise InputError(
            "mlp: in_channels, classes and size must be at least 1, got "
            f"{in_channels}, {classes} and {list(size)}"
        )
    if not 0 <= dropout < 1:
        raise InputError(f"mlp: dropout must be at least 0 and below 1, got {dropout}")
    return Mlp(WIDTHS[preset], (in_channels, *size), classes, dropout)


class Mlp(nn.Module):
    """See `mlp`, which builds it."""

    def __init__(
        self, widths: Sequence[int], shape: tuple[int, ...], classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((math.prod(shape), *widths)):
            layers += [nn.Linear(before, after), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, *s)` to logits `(b, k)`.

        Raises:
            InputError: If the values are not of the shape it was built for.
        """
        # A tracer records shapes as tensors, on which a comparison would warn.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and tuple(image.shape[1:]) != self.shape:
            raise InputError(
                f"mlp: built for values {self.shape} per case, got {tuple(image.shape[1:])}; "
                "build it with in_channels and size of the cohort"
            )
        logits: Tensor = self.layers(image)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)

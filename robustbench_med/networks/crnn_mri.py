"""Convolutional recurrent network for series: hidden states run along time and iterations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.consistency import consistency_weight, consistent
from robustbench_med.networks.measured import measured_frames
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels

TASK = "reconstruction of series"
BOUNDED_BY = ""
Preset = Literal["full", "small"]
LATER = 3  # convolutional layers after the bidirectional one, each with a state of its own


@dataclass(frozen=True)
class RecurrentSize:
    """Iterations, which share their weights, and channels of the hidden states."""

    iterations: int
    filters: int


SIZES: dict[Preset, RecurrentSize] = {
    "full": RecurrentSize(5, 64),
    "small": RecurrentSize(3, 24),
}


def crnn_mri(
    *,
    preset: Preset = "full",
    in_channels: int = 2,
    classes: int = 2,
    noise_weight: float | None = None,
) -> "CrnnMri":
    """Build a CRNN-MRI, which maps measured k-space of a series to complex images.

    Args:
        preset: "full" is the paper's: 64 filters, 5 iterations with the same weights, 297,794
            parameters. "small" differs in widths and iterations only: 24 and 3, 42,554.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output: 2, the real and the imaginary part.
        noise_weight: As in `deep_cascade`.

    Raises:
        InputError: If a setting is out of range.

    Source: Qin et al., IEEE TMI 38 (2019), section III, arXiv:1712.01751; size, the sum of both
    directions with shared weights and initial weights (torch's own) as in the authors' code.
    Deviation: several coils, see `consistent`.
    """
    if preset not in SIZES:
        raise InputError(f"crnn_mri: preset must be one of {', '.join(SIZES)}, got {preset!r}")
    if in_channels < 2 or in_channels % 2 or classes != 2:
        raise InputError(
            "crnn_mri: in_channels must be even, two for each coil, and classes 2, the real and "
            f"imaginary part, got {in_channels} and {classes}"
        )
    return CrnnMri(SIZES[preset], noise_weight)


class CrnnMri(nn.Module):
    """See `crnn_mri`, which builds it; `consistent` tells what several coils change."""

    def __init__(self, size: RecurrentSize, noise_weight: float | None) -> None:
        super().__init__()
        self.noise_weight, self.iterations = noise_weight, size.iterations
        self.weight = consistency_weight("crnn_mri", noise_weight)
        self.filters = size.filters
        self.bidirectional = BidirectionalLayer(2, size.filters)
        self.forwards = nn.ModuleList(
            _convolution(size.filters, size.filters) for _ in range(LATER)
        )
        self.states = nn.ModuleList(_convolution(size.filters, size.filters) for _ in range(LATER))
        self.head = _convolution(size.filters, 2)
        self.activation = nn.ReLU()

    def extra_repr(self) -> str:
        """Tell what the weights do not; the model's digest reads it."""
        return f"iterations={self.iterations}, noise_weight={self.noise_weight}"

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, t, h, w)` to complex images `(b, 2, t, h, w)`.

        Raises:
            InputError: If the context has no mask, or no maps for several coils.
        """
        kspace, maps, mask = measured_frames("crnn_mri", image, context)
        kspace = mask * kspace
        seen = to_channels(adjoint(kspace, maps, mask)[:, None])
        cases, _, frames, height, width = seen.shape
        nothing = seen.new_zeros(cases * frames, self.filters, height, width)
        hidden = [nothing] * (1 + LATER)
        for _ in range(self.iterations):
            change, hidden = self._iterate(seen, hidden)
            # Under autocast the network answers in half precision, which the transform lacks.
            seen = consistent(seen + change.to(seen), kspace, maps, mask, self.weight)
        return seen

    def _iterate(self, seen: Tensor, before: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What to add to `(b, 2, t, h, w)`, and the states `(b t, filters, h, w)` of the layers."""
        cases, frames = seen.shape[0], seen.shape[2]
        hidden = [self.bidirectional(seen.movedim(2, 1).flatten(0, 1), before[0], frames)]
        layers = zip(self.forwards, self.states, before[1:], strict=True)
        for convolve, carry, state in layers:
            hidden.append(self.activation(convolve(hidden[-1]) + carry(state)))
        change = self.head(hidden[-1])
        return change.view(cases, frames, *change.shape[1:]).movedim(2, 1), hidden


class BidirectionalLayer(nn.Module):
    """A recurrent layer that runs along time both ways, with the same weights; the sum of both."""

    def __init__(self, before: int, filters: int) -> None:
        super().__init__()
        self.from_input = _convolution(before, filters)
        self.from_time = _convolution(filters, filters)
        self.from_iteration = _convolution(filters, filters)
        self.activation = nn.ReLU()

    def forward(self, image: Tensor, state: Tensor, frames: int) -> Tensor:
        """Map frames `(b t, before, h, w)` and the last iteration's states to new states.

        States have shape `(b t, filters, h, w)`.
        """
        given = self.from_input(image) + self.from_iteration(state)
        series = given.view(-1, frames, *given.shape[1:])
        onwards = self._along(series)
        back = self._along(series.flip(1)).flip(1)
        return (onwards + back).flatten(0, 1)

    def _along(self, series: Tensor) -> Tensor:
        state = torch.zeros_like(series[:, 0])
        states = []
        for frame in series.unbind(dim=1):
            state = self.activation(frame + self.from_time(state))
            states.append(state)
        return torch.stack(states, dim=1)


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel_size=3, padding=1)

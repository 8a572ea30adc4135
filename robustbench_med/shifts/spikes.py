"""Herringbone: single samples of k-space that a discharge made far too large."""

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.physics.fourier import to_channels
from robustbench_med.searching import Parameters
from robustbench_med.shifts.lines import levels_up_to, per_case
from robustbench_med.shifts.requirements import (
    require_count,
    require_kspace,
    require_magnitudes,
    require_plane,
)
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng

OF_A_SPIKE = ("row", "column", "phase")


@dataclass(frozen=True)
class Spikes:
    """Add a few large samples to k-space, at drawn places and of drawn phase.

    A spike is as large as `intensity` times the largest sample of the case, and adds a plane wave
    to the image. One to `most` spikes are drawn for each case; all of its channels, slices and
    phases have them in the same places. Draws are alike at every severity. Target, mask and noise
    stay: nobody knows of a spike.

    k-space cases, which have a `mask` in the context: exact; spikes fall on acquired samples.
    Magnitude images: each spike is one sample and has no mirrored partner, as in a scanner, so a
    complex wave is added to the image, taken as of phase 0, and the magnitude is taken: an
    approximation, because the phase that the scanner measured is gone. The largest sample of such
    an image is the middle of k-space, so the wave's height is `intensity` times the mean of the
    case's brightest plane.

    Attributes:
        intensity: Of a spike, as a share of the largest magnitude in the case's k-space.
        most: Spikes at the most.

    Source: Zhuo and Gullapalli, RadioGraphics 26 (2006), DOI 10.1148/rg.261055134; TorchIO's
    RandomSpike (Perez-Garcia et al., CMPB 208, 2021) for the intensity's unit.
    """

    intensity: Levels = (0.1, 0.2, 0.4, 0.6, 1.0)
    most: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "intensity", levels_up_to("spikes: intensity", self.intensity))
        require_count("spikes: most", self.most)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        intensity = strength("spikes", self.intensity, severity)
        if severity == 0:
            return batch
        # Not the probe's own stream, whose name holds the severity: only the intensity differs.
        stream = CaseRng(rng.seed, "spikes", rng.case_ids)
        spikes = 1 + (stream.uniform() * self.most).floor()
        places = stream.uniform(self.most * len(OF_A_SPIKE)).unbind(dim=1)
        return self.apply(
            batch,
            {
                "intensity": torch.full_like(spikes, intensity),
                "spikes": spikes,
                **dict(zip(self._places(), places, strict=True)),
            },
        )

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`; of each spike, counted from 0.

        `intensity` is a share of the largest sample, `spikes` how many, rounded; `row_0` and
        `column_0` are shares of the acquired rows and of the samples in that row, `phase_0` is in
        turns.
        """
        del batch
        return {
            "intensity": (0.0, strength("spikes", self.intensity, severity)),
            "spikes": (1.0, float(self.most)),
            **dict.fromkeys(self._places(), (0.0, 1.0)),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in the intensity and the phases.

        Raises:
            CaseError: If an image has negative intensities.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        image = require_plane("spikes", batch)
        heights, turns, shares = self._spikes(parameters)
        if "mask" in batch.context:
            acquired = require_kspace("spikes", batch, "")
            largest = image[:, ::2].hypot(image[:, 1::2]).flatten(1).amax(dim=1)
            heights = heights.to(image) * largest.unsqueeze(1)
            sparse = _samples(acquired, heights, turns.to(image), shares.to(image.device))
            every = sparse.expand(-1, image.shape[1] // 2, *sparse.shape[2:])
            return replace(batch, image=image + to_channels(every))
        require_magnitudes("spikes", batch)
        peak = image.mean(dim=(-2, -1)).flatten(1).amax(dim=1)
        wave = _waves(heights, turns, shares, image.shape[-2:]).to(image.device)
        real, imaginary = (
            (part.to(image).view(-1, *[1] * (image.ndim - 3), *image.shape[-2:]))
            for part in (wave.real, wave.imag)
        )
        height = per_case(peak, image)
        return replace(batch, image=(image + height * real).hypot(height * imaginary))

    def _places(self) -> list[str]:
        return [f"{name}_{spike}" for spike in range(self.most) for name in OF_A_SPIKE]

    def _spikes(self, parameters: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """Heights `(b, most)`, phases in turns `(b, most)`, row and column `(b, most, 2)`."""
        place = torch.stack([parameters[name] for name in self._places()], dim=1)
        place = place.view(-1, self.most, len(OF_A_SPIKE))
        number = torch.arange(self.most, device=place.device)
        there = number < parameters["spikes"].round().unsqueeze(1)
        return parameters["intensity"].unsqueeze(1) * there, place[..., 2], place[..., :2]


def _waves(heights: Tensor, turns: Tensor, shares: Tensor, plane: tuple[int, ...]) -> Tensor:
    """Sum of each case's plane waves, `(b, h, w)`, complex128: an outer product for each spike."""
    axes = []
    for size, share in zip(plane, shares.double().unbind(dim=-1), strict=True):
        frequency = (share * size).floor().clamp(max=size - 1) - size // 2
        position = torch.arange(size, dtype=torch.float64, device=share.device) - size // 2
        angle = 2 * pi / size * frequency.unsqueeze(2) * position
        axes.append(torch.polar(torch.ones_like(angle), angle))
    high = torch.polar(heights.double(), 2 * pi * turns.double())
    return (axes[0] * high.unsqueeze(2)).mT @ axes[1]


def _samples(acquired: Tensor, heights: Tensor, turns: Tensor, shares: Tensor) -> Tensor:
    """k-space of spikes alone, complex, shaped as `acquired`, `(b, 1, *p, h, w)`."""
    planes = acquired.flatten(1, -3)
    row = _nth(planes.any(dim=-1), shares[:, None, :, 0])
    here = planes.gather(2, row.unsqueeze(3).expand(-1, -1, -1, planes.shape[-1]))
    column = _nth(here, shares[:, None, :, 1:]).squeeze(3)
    value = torch.polar(heights.abs(), 2 * pi * turns) * heights.sign()
    value = value.unsqueeze(1).expand(-1, planes.shape[1], -1)
    place = row * planes.shape[-1] + column
    empty = value.new_zeros(planes.flatten(2).shape)
    return empty.scatter_add(2, place, value).view(acquired.shape)


def _nth(acquired: Tensor, share: Tensor) -> Tensor:
    """Index of the acquired one at a share of them all; `(..., h)` and `(..., m)` to `(..., m)`.

    0 where none is.
    """
    count = acquired.sum(dim=-1, keepdim=True)
    rank = (share * count).floor().clamp(max=count - 1) + 1
    found = acquired.cumsum(dim=-1).unsqueeze(-2) >= rank.unsqueeze(-1)
    return found.to(torch.uint8).argmax(dim=-1)

"""A smaller in-plane matrix, filled up with zeros to the old size."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.physics.fourier import fft2c, ifft2c
from robustbench_med.searching import Parameters
from robustbench_med.shifts.requirements import (
    require_kspace,
    require_magnitudes,
    require_plane,
    require_samples,
)
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class Resolution:
    """Keep only the inner share of k-space along rows and columns, the last two axes.

    The share is `1 / (1 + loss)` along each axis, so a voxel of 1 mm acts like one of `1 + loss`
    mm, with the ringing of a sharp edge in k-space.
    k-space cases, which have a `mask` in the context: samples outside become 0 and the mask
    follows; exact. Magnitude images: their own Fourier transform is cut and the magnitude taken
    again, an approximation, because the phase that the scanner measured is gone; the sum of a
    slice is kept up to ringing below 0, which turns positive. Targets stay as they are, at the
    old resolution. Draws no random numbers.

    Attributes:
        loss: What is added to the voxel's size, as a share of it.
    """

    loss: Levels = (0.25, 0.5, 0.75, 1.0, 1.25)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", require_levels("resolution: loss", self.loss))

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If an image has negative intensities, or no acquired sample is left.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        del rng
        if severity == 0:
            return batch
        loss = torch.tensor([strength("resolution", self.loss, severity)], dtype=torch.float64)
        return self.apply(batch, {"loss": loss})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `loss`, what is added to the voxel's size, as a share of it.

        Raises:
            InputError: If the severity is outside 0 to 5.
        """
        del batch
        return {"loss": (0.0, strength("resolution", self.loss, severity))}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; in steps, one frequency after the other, so without a slope.

        One loss may stand for all cases; 0 keeps all.

        Raises:
            CaseError: As for a call.
            UnsupportedError: If there are fewer than two spatial axes.
        """
        image = require_plane("resolution", batch)
        losses = parameters["loss"].tolist()
        rows, columns = (
            torch.stack([inner(size, 1 / (1 + loss)) for loss in losses])
            for size in image.shape[-2:]
        )
        inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).to(image.device)
        inside = inside.view(-1, *[1] * (image.ndim - 3), *image.shape[-2:])
        if "mask" in batch.context:
            return _cut(batch, inside)
        require_magnitudes("resolution", batch)
        # Symmetric about the centre, so that what comes back is real.
        smooth = ifft2c(fft2c(image).where(inside, 0)).real
        return replace(batch, image=smooth.abs())


def inner(size: int, share: float) -> Tensor:
    """Which of the centred frequencies of an axis lie in its inner share, `(size,)` bool."""
    frequency = torch.arange(size) - size // 2
    return (frequency.abs() < max(share * size / 2, 0.5)) | (share >= 1)


def _cut(batch: Batch, inside: Tensor) -> Batch:
    acquired = require_kspace("resolution", batch, "") & inside
    why = "none lies in the inner share of k-space; lower the severity"
    require_samples("resolution", batch, acquired, why)
    context = {**batch.context, "mask": batch.context["mask"].where(inside, 0)}
    return replace(batch, image=batch.image.where(inside, 0), context=context)

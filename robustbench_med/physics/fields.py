"""Smooth random fields in space: texture, receive profiles, field inhomogeneity, phase."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SmoothField:
    """A sum of plane waves: mean 0 and variance 1 over space, the same wherever it is asked.

    It is defined in continuous space, so that neighbouring slices, other grids and other
    thicknesses see one and the same field.

    Attributes:
        waves: `(m, 3)`, radians per mm along z, y, x.
        phases: `(m,)`, radians.
    """

    waves: Tensor
    phases: Tensor

    def __call__(self, z: float, y: Tensor, x: Tensor) -> Tensor:
        """Value at height `z` on the grid of `y` `(h,)` and `x` `(w,)`, mm, as `(h, w)`."""
        # cos(a + b) = cos a cos b - sin a sin b, so a slice is one matrix product.
        down = self.waves[:, 0] * z + self.phases + y[:, None] * self.waves[:, 1]
        across = self.waves[:, 2:3] * x
        left = torch.cat([down.cos(), -down.sin()], dim=1)
        scale = math.sqrt(2 / len(self.phases))
        return scale * (left @ torch.cat([across.cos(), across.sin()]))


def smooth_field(
    rng: np.random.Generator, wavelengths_mm: tuple[float, float], waves: int = 24
) -> SmoothField:
    """Draw a field whose waves have isotropic directions and log-uniform lengths."""
    direction = rng.standard_normal((waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shortest, longest = (math.log(length) for length in wavelengths_mm)
    length = np.exp(rng.uniform(shortest, longest, size=(waves, 1)))
    phases = rng.uniform(0, 2 * np.pi, waves)
    return SmoothField(
        torch.tensor(direction * 2 * np.pi / length, dtype=torch.float32),
        torch.tensor(phases, dtype=torch.float32),
    )

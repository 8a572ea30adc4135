"""Data consistency: what was measured is put back into what a network made of it."""

import math

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels, to_complex


def consistency_weight(name: str, noise_weight: float | None) -> float:
    """How much of the measurement is put back: lambda / (1 + lambda), or 1 without noise.

    Args:
        name: Of the network, for errors.
        noise_weight: The paper's lambda; None for infinity.

    Raises:
        InputError: If it is not above 0.
    """
    if noise_weight is None:
        return 1.0
    if not (math.isfinite(noise_weight) and noise_weight > 0):
        raise InputError(
            f"{name}: noise_weight must be finite and above 0, got {noise_weight}; "
            "leave it out for measurements without noise"
        )
    return noise_weight / (1 + noise_weight)


def consistent(
    seen: Tensor, kspace: Tensor, maps: Tensor | None, mask: Tensor, weight: float
) -> Tensor:
    """Turn an image `x` into `x + weight * A^H (y - A x)`; `A` measures, `A^H` is its adjoint.

    One coil: that is exact. k-space of the result is `y` where measured, or the weighted mean
    of the two, and the image's own elsewhere. Several coils: each coil's own k-space is made
    consistent just so, and the coil images are then combined by their sensitivities. The
    combined image, seen through the coils again, need not show `y`: where squared sensitivities
    sum to 1 or less the distance to `y` never grows, but only vanishes if the corrected coil
    images are one image seen through the maps.

    Args:
        seen: `x` as real channels, `(b, 2, *t, h, w)`.
        kspace: `y`, complex, `(b, c, *t, h, w)`, 0 where not measured.
        maps: Sensitivities, complex, of that shape or broadcast to it; None for one coil.
        mask: `(b, 1, *t, h, w)`, 1 where measured.
        weight: See `consistency_weight`.

    Source: Schlemper et al., IEEE TMI 37 (2018), section III, arXiv:1704.02422.
    """
    missed = kspace - forward(to_complex(seen)[:, 0], maps, mask)
    return seen + weight * to_channels(adjoint(missed, maps, mask)[:, None])

"""What claims about an extended network say of its image's error against a reference."""

import math
from dataclasses import dataclass

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.energy import Limits, by_slopes, by_voxel, down, up
from robustbench_med.proofs.image_outputs import Linear
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.proof import Claims
from robustbench_med.proofs.rounding import EPSILON, TINY


@dataclass(frozen=True)
class Sides:
    """Between which limits each output of a network lies; infinite where nothing is claimed.

    Attributes:
        low: `(m,)`, what each is at least.
        high: `(m,)`, what it is at most.
    """

    low: Floats
    high: Floats


@dataclass(frozen=True)
class Drawn:
    """What follows for an error, rounded outwards.

    Attributes:
        least: `(m,)`, what the error of each value is at least.
        most: `(m,)`, what it is at most.
        energy: Between which limits the sum of squared errors lies.
        nmse: The same by the reference's energy; NaN where that is 0.
        worst_pixel: The largest modulus of a voxel's error is at most that.
    """

    least: Floats
    most: Floats
    energy: Limits
    nmse: Limits
    worst_pixel: float


def sides(claims: Claims, outputs: int) -> Sides:
    """Read what is claimed of single outputs.

    Args:
        claims: Of the right form.
        outputs: How many outputs the network has.

    Raises:
        IntegrityError: If a claim is about several outputs, or has a factor other than 1 and -1.
    """
    if claims.columns.shape[1] != 1 or not (np.abs(claims.values) == 1).all():
        raise IntegrityError("claims of an image must be about one output each, by 1 or -1")
    columns, above = claims.columns[:, 0], claims.values[:, 0] > 0
    low, high = np.full(outputs, -np.inf), np.full(outputs, np.inf)
    np.maximum.at(low, columns[above], claims.limits[above])
    np.minimum.at(high, columns[~above], -claims.limits[~above])
    return Sides(low, high)


def drawn(found: Sides, linear: Linear | None, reference: Floats) -> Drawn:
    """Bound the error of an image against a reference.

    Args:
        found: Of `proofs.image_outputs.extended`: the flat image first, then, where there is a
            linear part, what of it is not linear.
        linear: What the image does nearly.
        reference: `(channels, *s)`, `m` values; two channels and two or three more axes are a
            complex image, whose error has a modulus.
    """
    count, truth = reference.size, reference.ravel()
    least, most = found.low[:count] - truth, found.high[:count] - truth
    slack = EPSILON * np.maximum(np.abs(least), np.abs(most)) + TINY
    least, most = least - slack, most + slack
    energy = by_voxel(least, most)
    rest = found.low[count : 2 * count], found.high[count : 2 * count]
    if linear is not None and all(np.isfinite(limit).all() for limit in rest):
        other = by_slopes(linear, truth, rest)
        energy = max(energy[0], other[0]), min(energy[1], other[1])
    far = np.maximum(np.abs(least), np.abs(most)).reshape(reference.shape)
    worst = float(modulus(far)[1].max())
    return Drawn(least, most, energy, _relative(energy, truth), worst)


def is_complex(image: Floats) -> bool:
    """Whether an image has a real and an imaginary part, of one frame or several."""
    return len(image) == 2 and image.ndim in (3, 4)


def modulus(parts: Floats) -> tuple[Floats, Floats]:
    """Lower and upper limits of each voxel's modulus, of values at least 0."""
    if not is_complex(parts):
        return parts, parts
    found = np.hypot(parts[0], parts[1])
    return np.asarray(found * (1 - 8 * EPSILON)), np.asarray(found * (1 + 8 * EPSILON))


def _relative(energy: Limits, truth: Floats) -> Limits:
    power = math.fsum(np.square(truth))
    if not power > 0:
        return math.nan, math.nan
    return max(down(energy[0] / power), 0.0), up(energy[1] / power)

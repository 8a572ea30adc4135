"""How far an image that a network gives can be from a reference, over a set of its inputs."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.certify.energy import Limits, by_slopes, by_voxel, down, up
from robustbench_med.certify.image_outputs import Linear, extended, linear_part
from robustbench_med.certify.ladder import Climbed, Effort, Rows, climb
from robustbench_med.errors import InputError
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import InputSet, Proof
from robustbench_med.proofs.rounding import EPSILON, TINY

Upto = Literal["ibp", "crown_ibp", "crown"]
RUNGS: tuple[Upto, ...] = ("ibp", "crown_ibp", "crown")
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorLimits:
    """What holds of a network's image over every input of a set, in real arithmetic.

    An image of two channels and two or three more axes is complex: its error has a modulus, and
    all that is said of it counts errors of phase. Limits rest on the claims of `proof`, which are
    about `network` and can be derived again by `proofs.check.check`, and on sums of them, rounded
    outwards.

    Attributes:
        low: `(*output)`, what each value is at least.
        high: The same, at most.
        worst_pixel: The largest modulus of an error is at most that.
        region_mean: `(channels, 2)`: between which limits the mean error over the region lies;
            None where no region was asked for.
        energy: Between which limits the sum of squared errors lies.
        nmse: The same by the reference's energy; NaN where that is 0. The error is of complex
            values: `nmse`, which compares magnitudes, is at most the upper limit, but may lie
            below the lower one.
        psnr: In dB, by the largest modulus of the reference; NaN where that is not above 0. Of a
            complex image this is `psnr_complex`.
        network: What the claims are about: the image, what of it is not linear, and its sums.
        proof: Of every value's limits, each way.
        by_direction: Whether the energy was bounded by what is linear, too, and not by voxel alone.
    """

    low: Floats
    high: Floats
    worst_pixel: float
    region_mean: Floats | None
    energy: Limits
    nmse: Limits
    psnr: Limits
    network: Network
    proof: Proof
    by_direction: bool


def error_limits(
    network: Network,
    inputs: InputSet,
    reference: Floats,
    *,
    region: Mask | None = None,
    upto: Upto = "crown",
) -> ErrorLimits:
    """Bound the error of a network's image against a reference, over a set of inputs.

    Args:
        network: Written out; gives `(channels, *s)`.
        inputs: All that it may be given.
        reference: Of its output's shape, finite.
        region: `(*s)`, over which the mean error is bounded.
        upto: Last rung of the ladder.

    Raises:
        InputError: If the reference or the region does not fit, or the rung is none of these.
    """
    reference = np.asarray(reference, np.float64)
    _check(network, reference, region, upto)
    count, truth = reference.size, reference.ravel()
    linear = linear_part(network, inputs)
    sums = _sums(reference.shape, region)
    whole = extended(network, linear, sums)
    low, high, proof = _both_sides(whole, inputs, upto)
    least, most = _errors(low[:count], high[:count], truth)
    energy = by_voxel(least, most)
    if linear is not None:
        energy = _closer(energy, linear, truth, (low[count : 2 * count], high[count : 2 * count]))
    means = None
    if region is not None:
        start = len(low) - len(sums)
        means = _means((low[start:], high[start:]), (least, most), sums, truth)
    peak = float(_modulus(np.abs(reference), up_=False).max() if _complex(reference)
                 else reference.max())  # fmt: skip
    voxels = count // 2 if _complex(reference) else count
    far = np.maximum(np.abs(least), np.abs(most)).reshape(reference.shape)
    return ErrorLimits(
        low[:count].reshape(reference.shape), high[:count].reshape(reference.shape),
        float(_modulus(far, up_=True).max()), means, energy, _relative(energy, truth),
        _decibels(energy, peak, voxels), whole, proof, linear is not None,
    )  # fmt: skip


def change_limits(
    network: Network,
    inputs: InputSet,
    *,
    at: Floats | None = None,
    region: Mask | None = None,
    upto: Upto = "crown",
) -> ErrorLimits:
    """Bound how far a network's image can move from the one at the middle of a set.

    The reference is that image as computed in float64: limits are about these very numbers.

    Args:
        network: Written out.
        inputs: All that it may be given.
        at: Of its input's shape, another point to begin at; None: the ball's centre, or the middle
            of the box.
        region: As of `error_limits`.
        upto: As of `error_limits`.
    """
    middle = inputs.low / 2 + inputs.high / 2 if inputs.centre is None else inputs.centre
    start = values(network, middle if at is None else at)[-1]
    return error_limits(network, inputs, start, region=region, upto=upto)


def _check(network: Network, reference: Floats, region: Mask | None, upto: str) -> None:
    shape = network.nodes[-1].shape
    if reference.shape != shape or not np.isfinite(reference).all():
        raise InputError(
            f"error limits: the reference must be finite and of the image's shape {shape}, got "
            f"{reference.shape} with {int((~np.isfinite(reference)).sum())} values that are not "
            "finite"
        )
    if upto not in RUNGS:
        raise InputError(f"error limits: upto must be {', '.join(RUNGS)}, got {upto!r}")
    if region is None:
        return
    if region.shape != shape[1:] or region.dtype != np.bool_ or not region.any():
        raise InputError(
            f"error limits: the region must be flags {shape[1:]}, at least one of them true, got "
            f"{region.dtype} {region.shape} with {int(np.count_nonzero(region))} true"
        )


def _sums(shape: tuple[int, ...], region: Mask | None) -> Floats:
    """A row for each channel that adds up the region."""
    if region is None:
        return np.zeros((0, size(shape)))
    rows = np.zeros((shape[0], shape[0], region.size))
    rows[np.arange(shape[0]), np.arange(shape[0])] = region.ravel()
    return rows.reshape(shape[0], -1)


def _both_sides(network: Network, inputs: InputSet, upto: Upto) -> tuple[Floats, Floats, Proof]:
    count = size(network.nodes[-1].shape)
    columns = np.tile(np.arange(count), 2)[:, None]
    signs = np.repeat([1.0, -1.0], count)[:, None]
    effort = Effort(upto, needed=-np.inf, close=True)
    climbed: Climbed = climb(network, inputs, Rows(columns, signs), effort)
    return climbed.limits[:count], -climbed.limits[count:], climbed.proof


def _errors(low: Floats, high: Floats, truth: Floats) -> tuple[Floats, Floats]:
    least, most = low - truth, high - truth
    slack = EPSILON * np.maximum(np.abs(least), np.abs(most)) + TINY
    return least - slack, most + slack


def _closer(
    energy: Limits, linear: Linear, truth: Floats, rest: tuple[Floats, Floats]
) -> Limits:  # fmt: skip
    if not all(np.isfinite(limit).all() for limit in rest):
        return energy
    other = by_slopes(linear, truth, rest)
    return max(energy[0], other[0]), min(energy[1], other[1])


def _means(
    summed: tuple[Floats, Floats], errors: tuple[Floats, Floats], sums: Floats, truth: Floats
) -> Floats:
    """As one row each, or of each voxel's limits, whichever is closer, `(channels, 2)`."""
    found = []
    for row, low, high in zip(sums, *summed, strict=True):
        inside = row > 0
        true = math.fsum(truth[inside])
        voxels = int(inside.sum())
        least = max(down(low - true - EPSILON * abs(true)), down(math.fsum(errors[0][inside])))
        most = min(up(high - true + EPSILON * abs(true)), up(math.fsum(errors[1][inside])))
        found.append((down(least / voxels), up(most / voxels)))
    return np.array(found)


def _complex(image: Floats) -> bool:
    return len(image) == 2 and image.ndim in (3, 4)


def _modulus(parts: Floats, *, up_: bool) -> Floats:
    """Of values at least 0, rounded up or down."""
    if not _complex(parts):
        return parts
    found = np.hypot(parts[0], parts[1])
    return np.asarray(found * (1 + 8 * EPSILON) if up_ else found * (1 - 8 * EPSILON))


def _relative(energy: Limits, truth: Floats) -> Limits:
    power = math.fsum(np.square(truth))
    if not power > 0:
        return math.nan, math.nan
    return max(down(energy[0] / power), 0.0), up(energy[1] / power)


def _decibels(energy: Limits, peak: float, voxels: int) -> Limits:
    if not peak > 0:
        return math.nan, math.nan

    def of(total: float) -> float:
        return math.inf if total <= 0 else 10 * math.log10(peak * peak * voxels / total)

    # A logarithm is rounded by far less than 1e-9 dB.
    return of(energy[1]) - 1e-9, of(energy[0]) + 1e-9

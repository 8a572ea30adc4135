"""How far an image that a network gives can be from a reference, over a set of its inputs."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.linear_part import linear_part
from robustbench_med.errors import InputError
from robustbench_med.proofs.energy import Limits, down, up
from robustbench_med.proofs.error_limits import Drawn, Sides, drawn, is_complex, modulus, sides
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.image_outputs import Linear, extended
from robustbench_med.proofs.network import Floats, Network, size
from robustbench_med.proofs.proof import InputSet, Proof
from robustbench_med.proofs.rounding import EPSILON

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
        linear: What the energy was bounded by besides; None: by voxel alone.
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
    linear: Linear | None


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
    proof = _both_sides(whole, inputs, upto)
    found = sides(proof.claims, size(whole.nodes[-1].shape))
    error = drawn(found, linear, reference)
    means = None if region is None else _means(found, error, sums, truth)
    peak = float(modulus(np.abs(reference))[0].max() if is_complex(reference)
                 else reference.max())  # fmt: skip
    voxels = count // 2 if is_complex(reference) else count
    return ErrorLimits(
        found.low[:count].reshape(reference.shape), found.high[:count].reshape(reference.shape),
        error.worst_pixel, means, error.energy, error.nmse,
        _decibels(error.energy, peak, voxels), whole, proof, linear,
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


def _both_sides(network: Network, inputs: InputSet, upto: Upto) -> Proof:
    count = size(network.nodes[-1].shape)
    columns = np.tile(np.arange(count), 2)[:, None]
    signs = np.repeat([1.0, -1.0], count)[:, None]
    effort = Effort(upto, needed=-np.inf, close=True)
    return climb(network, inputs, Rows(columns, signs), effort).proof


def _means(found: Sides, error: Drawn, sums: Floats, truth: Floats) -> Floats:
    """As one row each, or of each voxel's limits, whichever is closer, `(channels, 2)`."""
    means, start = [], len(found.low) - len(sums)
    for row, low, high in zip(sums, found.low[start:], found.high[start:], strict=True):
        inside = row > 0
        true = math.fsum(truth[inside])
        voxels = int(inside.sum())
        least = max(down(low - true - EPSILON * abs(true)), down(math.fsum(error.least[inside])))
        most = min(up(high - true + EPSILON * abs(true)), up(math.fsum(error.most[inside])))
        means.append((down(least / voxels), up(most / voxels)))
    return np.array(means)


def _decibels(energy: Limits, peak: float, voxels: int) -> Limits:
    if not peak > 0:
        return math.nan, math.nan

    def of(total: float) -> float:
        return math.inf if total <= 0 else 10 * math.log10(peak * peak * voxels / total)

    # A logarithm is rounded by far less than 1e-9 dB.
    return of(energy[1]) - 1e-9, of(energy[0]) + 1e-9

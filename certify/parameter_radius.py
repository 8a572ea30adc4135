"""The largest box of parameters over which rows are certified, and what breaks beyond it."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from robustbench_med.certify.cutting import Halving
from robustbench_med.certify.ladder import Rows
from robustbench_med.certify.parameters import (
    Parametric,
    certify_parameters,
    falsified,
    searched,
)
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.proofs.evaluation import values, values_of_cases
from robustbench_med.proofs.network import Floats, Network
from robustbench_med.proofs.proof import InputSet

CLOSE = 0.01
POINTS = 64


@dataclass(frozen=True)
class Radius:
    """How large a box is certified.

    Attributes:
        certified: Radius of the largest box that is; 0 if not even a small one.
        broken: Smallest radius at which the search met parameters that falsify a row; inf: none.
        proof: Of the certified box; None where there is none.
    """

    certified: float
    broken: float
    proof: Parametric | None


def certified_radius(
    network: Network,
    widths: Floats,
    rows: Rows,
    *,
    most: float = 1.0,
    needed: float = 0.0,
    halving: Halving | None = None,
) -> Radius:
    """Seek the largest r for which the box of -r to r times `widths` is fully certified.

    Bisection to 1 %: on the search in torch, then what it found is proved. Parameters that falsify,
    met by the search or on some rays before it, are an upper limit that saves steps.

    Args:
        network: Of an input `(k,)`, whose undisturbed value is 0.
        widths: `(k,)`, above 0 somewhere, nowhere below: relative sizes of the parameters.
        rows: Margins; certified together.
        most: Largest radius that is asked for.
        needed: What rows must be above.
        halving: How far to go for each radius.

    Raises:
        InputError: If widths do not fit or `most` is not above 0.
    """
    _require(network, widths, most)
    if (_at(network, rows, np.zeros(len(widths))) <= needed).any():
        return Radius(0.0, 0.0, None)
    broken = broken_on_rays(network, widths, rows, most, needed)
    low, high = 0.0, min(most, broken)
    trial = high if broken > most else high * (1 - 2 * CLOSE)
    while True:
        pieces = searched(network, _box(widths, trial), rows, needed, halving)
        for theta in falsified(network, rows, pieces, needed).values():
            broken = min(broken, _size(theta, widths))
        if bool((pieces.limits > needed).all()) and not pieces.falsifiers:
            low = trial
        else:
            high = min(trial, broken)
        if broken <= low:
            raise IntegrityError(
                f"certified_radius: {low} is certified, but parameters of {broken} falsify"
            )
        if high - low <= CLOSE * high or high <= CLOSE**2 * most:
            break
        trial = (low + high) / 2
    return _proved(network, widths, rows, Radius(low, broken, None), (needed, halving))


def broken_on_rays(
    network: Network, widths: Floats, rows: Rows, most: float, needed: float = 0.0
) -> float:
    """Smallest radius up to `most` at which some row fails on the rays to corners and sides.

    Args:
        network: Of an input `(k,)`.
        widths: `(k,)`.
        rows: Margins.
        most: Largest radius that is looked at.
        needed: What a row must be above.

    Returns:
        The radius; inf if no row fails at any of the points.
    """
    count = len(widths)
    rays = np.array(list(product((-1.0, 0.0, 1.0), repeat=count)) if count <= 4 else np.eye(count))
    rays = np.concatenate([rays, -rays]) if count > 4 else rays[np.abs(rays).max(axis=1) > 0]
    for radius in np.linspace(0, most, POINTS + 1)[1:].tolist():
        outputs = values_of_cases(network, radius * rays * widths)[-1].reshape(len(rays), -1)
        if ((outputs[:, rows.columns] * rows.values).sum(axis=2) < needed).any():
            return float(radius)
    return float("inf")


def _proved(
    network: Network,
    widths: Floats,
    rows: Rows,
    found: Radius,
    asked: tuple[float, Halving | None],
) -> Radius:
    """Prove what was found; a hair smaller where rounding is in the way."""
    radius, (needed, halving) = found.certified, asked
    for _ in range(5):
        if radius <= 0:
            break
        box = _box(widths, radius)
        proof = certify_parameters(network, box, rows, needed=needed, halving=halving)
        if proof.certified:
            return Radius(radius, found.broken, proof)
        radius *= 1 - CLOSE
    return Radius(0.0, found.broken, None)


def _box(widths: Floats, radius: float) -> InputSet:
    return InputSet(-radius * widths, radius * widths)


def _size(theta: Floats, widths: Floats) -> float:
    return float(np.max(np.abs(theta[widths > 0]) / widths[widths > 0]))


def _at(network: Network, rows: Rows, theta: Floats) -> Floats:
    output = values(network, theta)[-1].ravel()
    return np.asarray((output[rows.columns] * rows.values).sum(axis=1))


def _require(network: Network, widths: Floats, most: float) -> None:
    shape = network.nodes[0].shape
    if widths.shape != shape or not (widths >= 0).all() or not (widths > 0).any():
        raise InputError(
            f"certified_radius: widths must be {shape}, at least 0 and some above, got {widths}"
        )
    if not 0 < most < np.inf:
        raise InputError(f"certified_radius: most must be above 0 and finite, got {most}")

"""Gamma errors: exact pixel boxes of sub-intervals, as a power is monotone in its exponent."""

from itertools import pairwise

import numpy as np

from robustbench_med.certify.prefix import Bounds
from robustbench_med.errors import InputError
from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.proof import InputSet


def gamma_boxes(
    image: Floats, least: float, most: float, parts: int, bounds: Bounds = (0.0, 1.0)
) -> tuple[InputSet, ...]:
    """Enclose an image under every gamma from `least` to `most`, by sub-intervals.

    A value u of 0 to 1 becomes u ** gamma, which falls in gamma: over a sub-interval a to b each
    pixel runs from u ** b to u ** a, and no pixel box is smaller. What is proved on every box holds
    for every gamma; sub-intervals have equal length in log gamma.

    Args:
        image: `(c, *s)`, within the bounds.
        least: Smallest gamma, above 0.
        most: Largest gamma, at least that.
        parts: Sub-intervals.
        bounds: What counts as 0 and as 1.

    Raises:
        InputError: If the image leaves the bounds, or the range or number of parts is none.
    """
    low, high = bounds
    if not (np.isfinite(image).all() and (image >= low).all() and (image <= high).all()):
        raise InputError(
            f"gamma_boxes: the image must lie within its bounds {bounds}, got "
            f"{image.min()} to {image.max()}"
        )
    if not (0 < least <= most < np.inf and parts >= 1):
        raise InputError(
            "gamma_boxes: needs 0 < least <= most and at least 1 part, got "
            f"{least}, {most} and {parts}"
        )
    unit = (image - low) / (high - low)
    ends = np.geomspace(least, most, parts + 1)
    ends[0], ends[-1] = least, most
    return tuple(
        _box(image.shape, _shown(unit, b, bounds, -1), _shown(unit, a, bounds, 1), bounds)
        for a, b in pairwise(ends.tolist())
    )


def _shown(unit: Floats, gamma: float, bounds: Bounds, side: int) -> Floats:
    low, high = bounds
    raised = unit**gamma
    # Rounding of `unit` (relative 3e-16) grows by gamma; the power adds an error of its own.
    slack = side * (1 + gamma) * 2e-15 * ((high - low) * raised + abs(low))
    return np.asarray(low + (high - low) * raised + slack)


def _box(shape: tuple[int, ...], below: Floats, above: Floats, bounds: Bounds) -> InputSet:
    return InputSet(np.clip(below, *bounds).reshape(shape), np.clip(above, *bounds).reshape(shape))

"""Two lines between which a ReLU lies while its input stays within limits."""

from dataclasses import dataclass

import numpy as np

from robustbench_med.proofs.network import Floats
from robustbench_med.proofs.patches import Patch
from robustbench_med.proofs.proof import Indices
from robustbench_med.proofs.rounding import EPSILON, TINY


@dataclass(frozen=True)
class Lines:
    """For every z within the limits, `below * z <= max(z, 0) <= above * z + lift`.

    Attributes:
        below: `(n,)`, or `(r, n)` where each row has its own.
        above: `(n,)`.
        lift: `(n,)`, at least 0.
    """

    below: Floats
    above: Floats
    lift: Floats

    def of_rows(self, part: Indices) -> "Lines":
        """Those of some rows."""
        return self if self.below.ndim == 1 else Lines(self.below[part], self.above, self.lift)

    def of_patch(self, patch: Patch, shape: tuple[int, ...]) -> "Lines":
        """Those of a patch of a value of this shape."""
        rows = self.below.shape[:-1]
        below = patch.cut(self.below.reshape(*rows, *shape)).reshape(*rows, -1)
        return Lines(below, *(patch.of(each.reshape(shape)) for each in (self.above, self.lift)))


def lines(lower: Floats, upper: Floats, slopes: Floats) -> Lines:
    """Draw the lines; where a limit is 0 or beyond, the ReLU itself is a line.

    `max(z, 0)` is convex, so a line that is no lower at both ends is no lower between them: with
    any slope s from 0 to 1 it must reach 0 at the lower and u at the upper limit. The lift that
    this takes is rounded upwards; the slope need not be exact.

    Args:
        lower: `(*shape)`.
        upper: `(*shape)`.
        slopes: `(*shape)` or `(r, *shape)`, 0 to 1.

    Source: Zhang et al., NeurIPS 2018, arXiv:1811.00866, section 3.2.
    """
    low, high = lower.ravel(), upper.ravel()
    active, crossing = low >= 0, (low < 0) & (high > 0)
    below = slopes.reshape(-1, low.size) if slopes.ndim > lower.ndim else slopes.ravel()
    width = np.where(crossing, high - low, 1.0)
    steep = np.clip(np.where(crossing, high, 0.0) / width, 0.0, 1.0)
    lift = np.maximum(-steep * low, (1 - steep) * high) * (1 + 8 * EPSILON) + TINY
    return Lines(
        below=np.where(crossing, below, active.astype(np.float64)),
        above=np.where(crossing, steep, active.astype(np.float64)),
        lift=np.where(crossing, lift, 0.0),
    )


def steepest(lower: Floats, upper: Floats) -> Floats:
    """Choose the slope, 0 or 1, that leaves the smaller area below the ReLU."""
    return (upper > -lower).astype(np.float64)

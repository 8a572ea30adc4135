"""How stored values become intensities in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.cohorts.pixels import Array
from robustbench_med.errors import InputError

PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Intensity:
    """A linear map onto [0, 1], clipped at both ends.

    Attributes:
        rule: `dtype`: the range of the stored integer type. `case`: the case's own 1st to
            99th percentile, for a slice those of its volume. `window`: a stated range.
        window: The range of rule `window`.
    """

    rule: Literal["dtype", "case", "window"]
    window: tuple[float, float] = (0.0, 1.0)

    def __call__(self, array: Array) -> NDArray[np.float32]:
        """Map stored values of any shape; a constant image gives zeros under rule `case`."""
        low, high = self._range(array)
        exact = np.dtype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
        values: Array = (array.astype(exact) - low) / ((high - low) or 1.0)
        scaled: NDArray[np.float32] = np.clip(values, 0, 1).astype(np.float32, copy=False)
        return scaled

    def problem(self, array: Array) -> str | None:
        """Say why `array` cannot be mapped; None if it can."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{array.size - np.isfinite(array).sum()} voxels are NaN or infinite"
        if self.rule == "dtype" and array.dtype.kind == "f":
            return (
                "intensity = 'dtype' needs integers, got floating point values (or a slope); "
                "state a window [low, high] or 'case'"
            )
        return None

    def _range(self, array: Array) -> tuple[float, float]:
        if self.rule == "window":
            return self.window
        if self.rule == "case":
            return _spread(array)
        if array.dtype.kind == "b":
            return 0.0, 1.0
        return float(np.iinfo(array.dtype).min), float(np.iinfo(array.dtype).max)


def intensity_rule(rule: object) -> Intensity:
    """Read `"dtype"`, `"case"` or `[low, high]`.

    Raises:
        InputError: If it is none of them.
    """
    if rule == "dtype":
        return Intensity("dtype")
    if rule == "case":
        return Intensity("case")
    if isinstance(rule, Sequence) and not isinstance(rule, str) and len(rule) == 2:
        low, high = rule
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in rule)
        if numbers and np.isfinite([low, high]).all() and low < high:
            return Intensity("window", (float(low), float(high)))
    raise InputError(f"intensity: expected 'dtype', 'case' or [low, high], got {rule!r}")


def _spread(array: Array) -> tuple[float, float]:
    """Percentiles, or the extremes of an image that is constant but for a few voxels."""
    low, high = np.percentile(array.astype(np.float64), PERCENTILES)
    if low == high:
        low, high = array.min(), array.max()
    return float(low), float(high)

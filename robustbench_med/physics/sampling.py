"""Which lines of k-space are measured."""

import math

import torch
from torch import Tensor

from robustbench_med.errors import InputError

SPREAD = 0.1


def cartesian_mask(
    lines: int, acceleration: float, centre_lines: int, generator: torch.Generator
) -> Tensor:
    """Draw the phase-encode lines that are measured, densest at the centre of k-space.

    Exactly `int(lines / acceleration)` lines: the `centre_lines` around line `lines // 2` always,
    the others without replacement with odds `exp(-d^2 / (2 (lines / 10)^2)) + 1 / (2 acceleration)`
    at distance `d` from it.

    Args:
        lines: Rows of k-space, at least 1.
        acceleration: Rows by measured rows, at least 1.
        centre_lines: At least 0.
        generator: Decides the draw; on the CPU.

    Returns:
        `(lines,)`, bool: True where measured.

    Raises:
        InputError: If a number is out of range, or the acceleration leaves too few lines.

    Source: Jung et al., MRM 61 (2009), kt-FOCUSS, as drawn by Schlemper et al., IEEE TMI 37
    (2018), section IV-B, arXiv:1704.02422.
    """
    measured = _measured(lines, acceleration, centre_lines)
    first = lines // 2 - centre_lines // 2
    mask = torch.zeros(lines, dtype=torch.bool)
    mask[first : first + centre_lines] = True
    if measured > centre_lines:
        offset = torch.arange(lines, dtype=torch.float64) - lines // 2
        odds = torch.exp(-0.5 * (offset / (SPREAD * lines)) ** 2) + 0.5 / acceleration
        odds[mask] = 0
        drawn = torch.multinomial(odds, measured - centre_lines, generator=generator)
        mask[drawn] = True
    return mask


def _measured(lines: int, acceleration: float, centre_lines: int) -> int:
    if lines < 1 or centre_lines < 0:
        raise InputError(
            "mask: expected at least 1 line and at least 0 centre lines, "
            f"got {lines} and {centre_lines}"
        )
    if not (math.isfinite(acceleration) and acceleration >= 1):
        raise InputError(f"mask: acceleration must be finite and at least 1, got {acceleration}")
    # 49 / (49 / 7) is a hair below 7 in floating point.
    measured = int(lines / acceleration + 1e-9)
    if measured < 1:
        raise InputError(
            f"mask: acceleration {acceleration:g} leaves none of {lines} lines; "
            f"take at most {lines}"
        )
    if centre_lines > lines:
        raise InputError(f"mask: {centre_lines} centre lines, but there are only {lines} lines")
    if centre_lines > measured:
        raise InputError(
            f"mask: acceleration {acceleration:g} allows {measured} of {lines} lines, fewer than "
            f"the {centre_lines} centre lines; lower one of the two"
        )
    return measured

"""What a severity from 0 to 5 means: a strength in the unit of a setting."""

from collections.abc import Sequence
from math import isfinite

from robustbench_med.errors import InputError
from robustbench_med.probes import MOST_SEVERITY, require_severity

Levels = Sequence[float]
"""Strength at severity 1, 2, 3, 4 and 5: five numbers above 0, none below the one before."""


def require_levels(who: str, levels: object) -> tuple[float, ...]:
    """Return `Levels` as a tuple; refuse what is none.

    Args:
        who: The shift and its setting, for the message.
        levels: What was given.

    Raises:
        InputError: Naming the setting and what it got.
    """
    numbers = _five(levels)
    if not numbers or not numbers[0] > 0:
        raise InputError(
            f"{who} must be five numbers above 0, of severities 1 to 5, none below the one before "
            f"it, got {levels!r}"
        )
    return numbers


def require_levels_or_zeros(who: str, levels: object) -> tuple[float, ...]:
    """Return `Levels` as a tuple, or five zeros: for a part of a shift that may be left out.

    Args:
        who: The shift and its setting, for the message.
        levels: What was given.

    Raises:
        InputError: Naming the setting and what it got.
    """
    numbers = _five(levels)
    if not numbers or not (numbers[0] > 0 or not any(numbers)):
        raise InputError(
            f"{who} must be five zeros, for none of it, or five numbers above 0, of severities 1 "
            f"to 5, none below the one before it, got {levels!r}"
        )
    return numbers


def strength(who: str, levels: Levels, severity: float) -> float:
    """What a setting is at a severity; in a straight line between two levels, and from 0 at 0.

    Args:
        who: The shift, for the message.
        levels: Of severities 1 to 5.
        severity: From 0 to 5.

    Raises:
        InputError: If the severity is outside 0 to 5.
    """
    require_severity(who, severity)
    whole = min(int(severity), MOST_SEVERITY - 1)
    below, above = ([0.0, *levels][whole + i] for i in range(2))
    share = severity - whole
    # So, and not by the difference, 5 has its level to the bit.
    return float(below * (1 - share) + above * share)


def _five(levels: object) -> tuple[float, ...]:
    """The levels, if they are five finite numbers, none below the one before; else nothing."""
    numbers = tuple(levels) if isinstance(levels, (list, tuple)) else ()
    real = all(type(number) in (int, float) and isfinite(number) for number in numbers)
    good = len(numbers) == MOST_SEVERITY and real and list(numbers) == sorted(numbers)
    return tuple(float(number) for number in numbers) if good else ()

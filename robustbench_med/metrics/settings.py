"""What a metric's setting may be."""

from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is a whole number; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)

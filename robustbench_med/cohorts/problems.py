"""Mistakes in a folder, gathered so that one refusal names them all."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from robustbench_med.errors import InputError, raise_together

SHOWN = 20

T = TypeVar("T")


def attempt(problems: list[str], make: Callable[[], T], where: str = "") -> T | None:
    """Return what `make` makes; if it refuses, add each reason, after `where`, to `problems`."""
    try:
        return make()
    except InputError as error:
        problems += [where + line for line in str(error).splitlines()]
        return None


def refuse(problems: Sequence[str]) -> None:
    """Raise one `InputError` with the first problems, a line each; none, do nothing."""
    more = len(problems) - SHOWN
    raise_together([*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])])

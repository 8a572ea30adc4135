"""Which way a strength acts: up, down, or drawn for each case."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.streams import CaseRng

RANDOM = "random"


def require_direction(who: str, words: Sequence[str], direction: object) -> None:
    """Refuse a direction that is none of its words.

    Args:
        who: The shift, for the message.
        words: The word for up, the one for down, and "random".
        direction: What was given.

    Raises:
        InputError: Naming the words and what came.
    """
    if direction not in words:
        raise InputError(f"{who}: direction must be one of {', '.join(words)}, got {direction!r}")


def drawn_sides(who: str, words: Sequence[str], direction: str, rng: CaseRng) -> Tensor:
    """1 for up and -1 for down, `(b,)`: of the direction, or drawn with equal chance.

    Draws depend on the seed, the shift and the case: alike at every severity.
    """
    drawn = (CaseRng(rng.seed, who, rng.case_ids).uniform() < 0.5).float() * 2 - 1
    if direction == RANDOM:
        return drawn
    return torch.full_like(drawn, 1.0 if direction == words[0] else -1.0)


def limits(words: Sequence[str], direction: str, most: float) -> tuple[float, float]:
    """Lowest and highest value of a strength of at most `most` that acts in a direction."""
    return (0.0 if direction == words[0] else -most, 0.0 if direction == words[1] else most)

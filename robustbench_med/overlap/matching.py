"""Queries laid on the images of their shortlists."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.overlap.picture import turned
from robustbench_med.overlap.registration import agreement
from robustbench_med.overlap.shortlist import Shortlist

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """The best that a query found.

    Attributes:
        place: In the base; -1 where there was nothing to compare with.
        agreement: Of the details, in [0, 1].
        turn: Of the query, a position in `TURNS`.
    """

    place: int
    agreement: float
    turn: int


def best_of(picture: Picture, found: Shortlist, row: int, near: Mapping[int, Picture]) -> Match:
    """Lay a query on each image of its shortlist, and return the one that it agrees with best.

    Args:
        picture: `(64, 64)`, the query's.
        found: Shortlists.
        row: The query's.
        near: Pictures of the base, by place.
    """
    best = Match(-1, 0.0, 0)
    columns = (found.place[row].tolist(), found.likeness[row].tolist(), found.turn[row].tolist())
    for place, likeness, turn in zip(*columns, strict=True):
        if likeness > 0:
            moved = turned(picture.astype(np.float64), turn)
            agreed = agreement(moved, near[place].astype(np.float64))
            best = max(best, Match(place, agreed, turn), key=lambda match: match.agreement)
    return best

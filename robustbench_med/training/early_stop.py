"""Early stopping: the epoch whose weights did best on cases that are not learned from."""

import math
from collections.abc import Mapping, Sequence

Row = Mapping[str, float]


def best_epoch(curve: Sequence[Row]) -> int:
    """Epoch of the lowest validation loss, the first of equal ones; 0 of an empty curve."""
    return int(min(curve, key=_loss)["epoch"]) if curve else 0


def is_over(curve: Sequence[Row], patience: int | None) -> bool:
    """Whether the validation loss has not fallen below its lowest for `patience` epochs."""
    return patience is not None and len(curve) - best_epoch(curve) >= patience


def _loss(row: Row) -> float:
    value = row["validation_loss"]
    return math.inf if math.isnan(value) else value

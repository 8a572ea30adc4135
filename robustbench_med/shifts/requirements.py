"""What a shift requires of its settings and of the images."""

from math import isfinite

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError


def require_strength(who: str, value: object) -> None:
    """Refuse a strength per severity that is not a finite number above 0.

    Raises:
        InputError: Naming the setting and what it got.
    """
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else -1
    if not (isfinite(number) and number > 0):
        raise InputError(f"{who} must be finite and above 0, got {value!r}")


def require_magnitudes(who: str, batch: Batch) -> Tensor:
    """Return the batch's images `(b, c, *s)` if all are at least 0.

    Raises:
        CaseError: If any intensity is negative, naming the first such case.
    """
    lowest = batch.image.flatten(start_dim=1).amin(dim=1)
    negative = (lowest < 0).nonzero()
    if len(negative):
        first = int(negative[0])
        raise CaseError(
            f"{who}: needs magnitude images, at least 0; case {batch.case_ids[first]!r} goes down "
            f"to {float(lowest[first]):g}; normalise inside the network instead"
        )
    return batch.image

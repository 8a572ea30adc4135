"""What a metric needs of a case beside its images."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robustbench_med.errors import CaseError


def entries(who: str, context: Mapping[str, Tensor] | None, *names: str) -> list[Tensor]:
    """Read entries of the context, float64.

    Raises:
        CaseError: If any is missing, naming all that are.
    """
    there = context or {}
    missing = [name for name in names if name not in there]
    if missing:
        raise CaseError(
            f"{who}: needs {' and '.join(map(repr, missing))} in the case's context, which has "
            f"{', '.join(there) or 'nothing'}"
        )
    return [there[name].double() for name in names]


def spacings(who: str, context: Mapping[str, Tensor] | None) -> Tensor:
    """Extent of each case's voxels along z, y and x.

    Returns:
        `(b, 3)`, float64, in mm; a row is NaN where any of its extents is no positive number.

    Raises:
        CaseError: If `spacing` is missing or not of three axes, naming the metric `who`.
    """
    (found,) = entries(who, context, "spacing")
    if found.ndim != 2 or found.shape[1] != 3:
        raise CaseError(f"{who}: needs spacing (3,) in mm per case, got {tuple(found.shape[1:])}")
    legal = (found.isfinite() & (found > 0)).all(dim=1, keepdim=True)
    return found.where(legal, torch.nan)

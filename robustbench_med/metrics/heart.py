"""Clinical measures of whole patients, from their predicted and their true masks."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from robustbench_med.clinical import Measures, measure
from robustbench_med.errors import CaseError, InputError


class Pair(NamedTuple):
    """Measures of one patient."""

    predicted: Measures
    true: Measures


def measured(
    who: str, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None
) -> list[Pair | None]:
    """Measure each case on its predicted and on its true masks; None where spacing is no length.

    Args:
        who: Name of the metric, for errors.
        output: `(b, 4, 2, z, y, x)`, logits of background, LV, myocardium and RV, at ED and ES.
        target: `(b, 2, z, y, x)`, class indices 0 to 3.
        context: With `spacing` `(b, 3)`, in mm.

    Raises:
        InputError: If the shapes are not those of whole patients.
        CaseError: If `spacing` is missing or not of three axes.
    """
    shape = (*output.shape[:1], *output.shape[2:])
    if output.ndim != 6 or output.shape[1:3] != (4, 2) or target.shape != shape:
        raise InputError(
            f"{who}: needs whole patients, output (b, 4, 2, z, y, x) and target (b, 2, z, y, x), "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    (spacings,) = entries(who, context, "spacing")
    if spacings.ndim != 2 or spacings.shape[1] != 3:
        raise CaseError(
            f"{who}: needs spacing (3,) in mm per case, got {tuple(spacings.shape[1:])}"
        )
    predicted, true = (masks.cpu().numpy() for masks in (output.argmax(dim=1), target))
    lengths = (spacings.isfinite() & (spacings > 0)).all(dim=1).tolist()
    return [
        Pair(measure(p, spacing), measure(t, spacing)) if legal else None
        for p, t, spacing, legal in zip(predicted, true, spacings.tolist(), lengths, strict=True)
    ]


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

"""Clinical measures of whole patients, from their predicted and their true masks."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from robustbench_med.clinical import Measures, measure
from robustbench_med.errors import InputError
from robustbench_med.metrics.context import spacings


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
    lengths = spacings(who, context).cpu().numpy()
    predicted, true = (masks.cpu().numpy() for masks in (output.argmax(dim=1), target))
    return [
        None if np.isnan(spacing).any() else Pair(measure(p, spacing), measure(t, spacing))
        for p, t, spacing in zip(predicted, true, lengths, strict=True)
    ]

"""Bounds of a group's value whatever the patients of unknown attribute turn out to be."""

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.groups import GroupFindings
from robustbench_med.statistics.rest import SHOWN_FROM
from robustbench_med.statistics.scores import Flags
from robustbench_med.statistics.slices import NOT_RECORDED, Slice, recorded
from robustbench_med.statistics.study import Study
from robustbench_med.statistics.unknown import bounds_with_unknown


def bounds_of(study: Study, found: GroupFindings) -> Floats:
    """Least and greatest value of the group if any of the unknown patients belonged to it.

    Returns:
        `(2, q)`; NaN where the attribute of fewer than ten patients is unknown, whose values the
        bounds would tell, and for what is no ratio of sums.
    """
    bounds = np.full((2, len(study.columns)), np.nan)
    unknown = might_belong(study, found.group)
    if len(np.unique(study.drawn.patient_ids[unknown])) < SHOWN_FROM:
        return bounds
    first = 0
    for reading in study.readings:
        known = reading.of(study.drawn.patient_ids, found.chosen).sums
        other = reading.of(study.drawn.patient_ids, unknown).sums
        for place in range(len(reading.probes)):
            if known is not None and other is not None:
                bounds[:, first + place] = bounds_with_unknown(
                    known.numerator[:, place].sum(), known.denominator[:, place].sum(),
                    other.numerator[:, place], other.denominator[:, place],
                )  # fmt: skip
        first += len(reading.probes)
    return bounds


def might_belong(study: Study, group: Slice) -> Flags:
    """Cases outside the group that no recorded attribute keeps out of it, `(c,)`."""
    possible = np.ones(len(study.cases), dtype=bool)
    for column, value in zip(group.columns, group.values, strict=True):
        texts = recorded(study.cases, column)
        possible &= texts.isin([value, NOT_RECORDED]).to_numpy(dtype=bool)
    inside = group.mask(study.cases)
    named = NOT_RECORDED not in group.values
    return possible & ~inside if named and group.columns else np.zeros_like(inside)

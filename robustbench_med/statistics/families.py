"""Corrects the comparisons of groups for how many there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.comparison import Difference
from robustbench_med.statistics.groups import GroupFindings
from robustbench_med.statistics.multiplicity import holm, max_t
from robustbench_med.statistics.study import Study, distinct_tests

Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Adjusted:
    """Corrected p-values of `g` groups and `q` columns, NaN where nothing was tested.

    Attributes:
        holm: `(g, q)`, over the declared groups, under each probe and metric by itself.
        joint: `(g, q)`, over all groups and probes of a metric, by the greatest deviate.
        interaction: `(g, q)`, of the changes' differences, over the declared groups.
        tests: `(q,)`, comparisons in each family of `holm`.
    """

    holm: Floats
    joint: Floats
    interaction: Floats
    tests: Counts


def adjust(study: Study, findings: Sequence[GroupFindings]) -> Adjusted:
    """Correct the p-values of everyone (never tested) and of the declared groups."""
    same = distinct_tests(findings)
    p = np.array([_tested(found, found.gap.differences if found.gap else []) for found in findings])
    change = np.array([_tested(found, found.interactions) for found in findings])
    metrics = [reading.metric for reading, _ in study.columns]
    return Adjusted(
        _by_column(p, same, holm),
        _joint(findings, p, same, metrics),
        _by_column(change, same, holm),
        np.sum(~np.isnan(p[np.unique(same)]), axis=0),
    )


def _tested(found: GroupFindings, tests: Sequence[Difference]) -> Floats:
    """Leave out what too few patients stand behind: it is not shown, so it is not tested."""
    if not tests:
        return np.full(len(found.deciding), np.nan)
    return np.where(found.compared, np.array([test.p for test in tests]), np.nan)


def _by_column(p: Floats, same: Counts, correct: Callable[[Floats], Floats]) -> Floats:
    """Correct down each column, every distinct test once."""
    first = np.unique(same)
    adjusted = np.full_like(p, np.nan)
    for column in range(p.shape[1]):
        adjusted[first, column] = correct(p[first, column])
    found = adjusted[same]
    return np.asarray(np.where(np.isnan(p), np.nan, found))


def _joint(
    findings: Sequence[GroupFindings], p: Floats, same: Counts, metrics: Sequence[str]
) -> Floats:
    joint = np.full_like(p, np.nan)
    for metric in dict.fromkeys(metrics):
        columns = [place for place, name in enumerate(metrics) if name == metric]
        tests = [(g, c) for g in np.unique(same) for c in columns if not np.isnan(p[g, c])]
        gaps = [(findings[g].gap, c) for g, c in tests]
        observed = np.array([gap.statistic[c] for gap, c in gaps if gap])
        draws = [gap.draws[:, c] for gap, c in gaps if gap]
        if draws:
            joint[tuple(np.transpose(tests))] = max_t(observed, np.stack(draws, axis=1))
    return np.asarray(np.where(np.isnan(p), np.nan, joint[same]))

"""Whether groups differ at all, and how large a gap chance alone makes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustbench_med.errors import InputError
from robustbench_med.statistics.bootstrap import DRAWS, Floats

BLOCK_CELLS = 2**19


@dataclass(frozen=True)
class Gap:
    """Largest minus smallest value among groups, with what chance alone would make of it.

    Attributes:
        value: Never negative, and above 0 even if the groups do not differ; NaN where fewer
            than two groups have a value.
        chance: Its mean if the groups do not differ.
        p: Share of shuffles with a gap at least as large, the observed one counted too.
    """

    value: float
    chance: float
    p: float


def cochran_q(values: Floats, errors: Floats) -> float:
    """p-value of "all groups have the same true value", by Cochran's Q.

    Assumes independent groups and known errors; with estimated ones of few patients it rejects
    too often, see `welch`. For a share give each group the error that the share of all groups
    together would have there, `sqrt(p (1 - p) / n)`: Q is then Pearson's chi-square, which does
    not suffer from groups near 0 or 1 whose own errors are too small.

    Args:
        values: `(k,)`; NaN where undefined.
        errors: `(k,)`, standard errors. A group whose error is not above 0 is left out, for a
            group without spread would weigh infinitely.

    Returns:
        By chi-square on one less than the groups counted; NaN for fewer than two.

    Source: Cochran, Biometrics 1954, 10:101-129.
    """
    held = _held(values, errors)
    values, weights = values[held], 1 / np.square(errors[held])
    if len(values) < 2:
        return math.nan
    return float(stats.chi2.sf(_excess(values, weights), len(values) - 1))


def welch(values: Floats, errors: Floats, df: Floats) -> float:
    """p-value of "all groups have the same true mean", allowing for errors that are estimates.

    Args:
        values: `(k,)`; NaN where undefined.
        errors: `(k,)`, standard errors; a group whose error is not above 0 is left out.
        df: `(k,)`, degrees of freedom of each error, above 0: its patients less 1.

    Returns:
        By an F law; NaN for fewer than two groups.

    Source: Welch, Biometrika 1951, 38:330-336.
    """
    held = _held(values, errors)
    values, weights, df = values[held], 1 / np.square(errors[held]), df[held]
    groups = len(values)
    if groups < 2:
        return math.nan
    doubt = float((np.square(1 - weights / weights.sum()) / df).sum()) / (groups**2 - 1)
    ratio = _excess(values, weights) / (groups - 1) / (1 + 2 * (groups - 2) * doubt)
    return float(stats.f.sf(ratio, groups - 1, 1 / (3 * doubt)))


def between_variance(values: Floats, errors: Floats) -> float:
    """Variance of the groups' true values, by the method of moments; at least 0.

    Arguments as for `cochran_q`; NaN for fewer than two groups.

    Source: DerSimonian and Laird, Control. Clin. Trials 1986, 7:177-188.
    """
    held = _held(values, errors)
    values, weights = values[held], 1 / np.square(errors[held])
    if len(values) < 2:
        return math.nan
    scale = weights.sum() - np.square(weights).sum() / weights.sum()
    return max(0.0, float((_excess(values, weights) - len(values) + 1) / scale))


def permuted_gap(
    numerator: Floats,
    denominator: Floats,
    group: NDArray[np.intp],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Gap:
    """Test the largest gap between groups by shuffling patients among them.

    Exact under "a patient's values do not depend on the group", whatever their law. Groups of
    equal means but unequal spread break that, and may be reported.

    Args:
        numerator: `(p,)`, what each patient adds above; finite.
        denominator: `(p,)`, what each adds below; a patient with 0 is left out.
        group: `(p,)`, positions 0, 1, ... of groups; -1 for a patient to be left out.
        rng: Random numbers.
        draws: Shuffles.

    Raises:
        InputError: If a numerator is not finite.

    Source: Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses, 3rd ed. 2005.
    """
    held = (denominator > 0) & (group >= 0)
    if not np.isfinite(numerator[held]).all():
        raise InputError("permuted gap: expected finite values, got an infinite or undefined one")
    above, below = numerator[held], denominator[held]
    _, labels = np.unique(group[held], return_inverse=True)
    groups = int(labels.max(initial=-1)) + 1
    if groups < 2:
        return Gap(math.nan, math.nan, math.nan)
    value = float(_gaps(above, below, labels[None], groups)[0])
    rows = max(1, BLOCK_CELLS // len(labels))
    shuffled = np.concatenate(
        [
            _gaps(above, below, rng.permuted(np.tile(labels, (size, 1)), axis=1), groups)
            for size in (min(rows, draws - first) for first in range(0, draws, rows))
        ]
    )
    # sums in another order differ in the last digits; equal gaps must count as equal
    beyond = int(np.count_nonzero(shuffled >= value * (1 - 1e-9)))
    return Gap(value, float(shuffled.mean()), (1 + beyond) / (draws + 1))


def _gaps(above: Floats, below: Floats, labels: NDArray[np.intp], groups: int) -> Floats:
    """Largest minus smallest ratio of sums for each row of labels."""
    rows = len(labels)
    places = (labels + groups * np.arange(rows)[:, None]).ravel()
    tops = np.bincount(places, np.tile(above, rows), rows * groups)
    bottoms = np.bincount(places, np.tile(below, rows), rows * groups)
    return np.asarray(np.ptp((tops / bottoms).reshape(rows, groups), axis=1))


def _held(values: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Which groups have both a value and an error."""
    return np.isfinite(values) & np.isfinite(errors) & (errors > 0)


def _excess(values: Floats, weights: Floats) -> float:
    centre = np.average(values, weights=weights)
    return float((weights * np.square(values - centre)).sum())

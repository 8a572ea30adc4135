"""What these patients can show: the gap that can be found, and the patients a gap needs."""

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from robustbench_med.errors import InputError

MOST_PATIENTS = 10_000_000
CHUNK = 1000


def detectable_difference(
    standard_error: float, tests: int = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Gap that a two-sided test finds with the stated power, in units of the standard error's.

    Args:
        standard_error: Of the difference; NaN passes through.
        tests: Size of the family, by Bonferroni: at least one of a Holm family is that strict.
        alpha: Chance of any false alarm in the family.
        power: Chance of finding a gap of this size in one given test.

    Raises:
        InputError: If a setting is impossible.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. 1988
        (normal approximation).
    """
    return (_critical(tests, alpha) + _quantile(power)) * standard_error


def power_of(gap: float, standard_error: float, tests: int = 1, alpha: float = 0.05) -> float:
    """Chance that a two-sided test finds a gap of this size, in either direction.

    Arguments and errors as for `detectable_difference`; NaN where the error is not above 0.
    """
    if not standard_error > 0:
        return math.nan
    critical, size = _critical(tests, alpha), abs(gap) / standard_error
    return float(stats.norm.sf(critical - size) + stats.norm.cdf(-critical - size))


def share_difference_error(
    share: float, group: float, rest: float, design_effect: float = 1.0
) -> float:
    """Standard error of a group's share minus the rest's, where both have the same share.

    Args:
        share: In [0, 1].
        group: Cases of the group, above 0.
        rest: Cases of everyone else, above 0.
        design_effect: Of `design_effect`; 1 for one case per patient.

    Raises:
        InputError: If a number is impossible.
    """
    _check_share("share", share)
    return mean_difference_error(math.sqrt(share * (1 - share)), group, rest, design_effect)


def mean_difference_error(
    sd: float, group: float, rest: float, design_effect: float = 1.0
) -> float:
    """Standard error of a group's mean minus the rest's, where both spread alike.

    Args:
        sd: Standard deviation between cases, at least 0.
        group: Cases of the group, above 0.
        rest: Cases of everyone else, above 0.
        design_effect: Of `design_effect`; 1 for one case per patient.

    Raises:
        InputError: If a number is impossible.
    """
    if not (sd >= 0 and group > 0 and rest > 0 and design_effect > 0):
        numbers = f"{sd}, {group}, {rest}, {design_effect}"
        raise InputError(f"power: expected sd >= 0 and sizes and design effect > 0, got {numbers}")
    return sd * math.sqrt(design_effect * (1 / group + 1 / rest))


def design_effect(cases_per_patient: float, icc: float) -> float:
    """How many times the variance grows because cases of one patient resemble each other.

    Args:
        cases_per_patient: At least 1; for unequal patients `sum(cases^2) / sum(cases)`.
        icc: Intraclass correlation, in [0, 1].

    Raises:
        InputError: If a number is impossible.

    Source: Kish, Survey Sampling, 1965 (design effect).
    """
    if not (cases_per_patient >= 1 and 0 <= icc <= 1):
        numbers = f"{cases_per_patient} and {icc}"
        raise InputError(f"power: expected cases >= 1 and icc in [0, 1], got {numbers}")
    return 1 + (cases_per_patient - 1) * icc


def patients_needed(
    gap: float,
    share: float,
    rest_per_group: float = 1.0,
    tests: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Patients of a group that are needed to find a gap in a share, one case each.

    Each side has its own variance, so the answer is larger than from `share_difference_error`
    for a group that is worse. For several cases per patient multiply by
    `design_effect / cases_per_patient`.

    Args:
        gap: The rest's share minus the group's, not 0.
        share: Of the rest.
        rest_per_group: Patients of the rest for each one of the group, above 0.
        tests: As in `detectable_difference`.
        alpha: As in `detectable_difference`.
        power: As in `detectable_difference`.

    Raises:
        InputError: If a number is impossible or more than ten million would be needed.
    """
    _check_share("share", share)
    _check_share("share less gap", share - gap)
    spread = (share - gap) * (1 - share + gap) + share * (1 - share) / rest_per_group
    _quantile(power)

    def found(patients: int) -> bool:
        error = math.sqrt(spread / patients)
        return error == 0 or power_of(gap, error, tests, alpha) >= power

    return _fewest(found, gap)


def pairs_needed(margin: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Patients, seen by both releases, that show non-inferiority if there is no difference.

    Args:
        margin: Largest loss in the share that is accepted, above 0.
        discordance: Share of patients whom exactly one release gets right, in [0, 1].
        alpha: Two-sided; the test is one-sided at half of it.
        power: Chance of showing it.

    Raises:
        InputError: If a number is impossible.

    Source: Liu et al., Stat. Med. 2002, 21:231-245 (normal approximation).
    """
    _check_share("discordance", discordance)
    if not margin > 0:
        raise InputError(f"power: expected a margin above 0, got {margin}")
    reach = _critical(1, alpha) + _quantile(power)
    return math.ceil(reach**2 * discordance / margin**2)


def positives_needed(true: float, goal: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Fewest patients with which the exact lower limit of a share exceeds a goal.

    Counts are whole, so power saws: a few more patients than this may have a little less.

    Args:
        true: The share that is believed, above the goal.
        goal: What the Clopper-Pearson lower limit must exceed.
        power: Chance that it does.
        alpha: Two-sided; the limit leaves out half of it below.

    Raises:
        InputError: If a number is impossible or more than ten million would be needed.
    """
    _check_share("true", true)
    _check_share("goal", goal)
    _quantile(power)
    if not true > goal:
        raise InputError(f"power: expected a true share above the goal, got {true} and {goal}")
    for first in range(1, MOST_PATIENTS, CHUNK):
        n = np.arange(first, first + CHUNK)
        most_that_fail = stats.binom.isf(alpha / 2, n, goal)
        reached = np.flatnonzero(stats.binom.sf(most_that_fail, n, true) >= power)
        if len(reached):
            return int(n[reached[0]])
    raise InputError(f"power: {true} against {goal} needs more than {MOST_PATIENTS} patients")


def _fewest(found: Callable[[int], bool], gap: float) -> int:
    """Smallest number for which `found` holds, given that it holds for all larger ones."""
    high = 1
    while not found(high):
        high *= 2
        if high > MOST_PATIENTS:
            raise InputError(f"power: a gap of {gap} needs more than {MOST_PATIENTS} patients")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _critical(tests: int, alpha: float) -> float:
    if tests < 1 or not 0 < alpha < 1:
        raise InputError(f"power: expected tests >= 1 and 0 < alpha < 1, got {tests} and {alpha}")
    return float(stats.norm.isf(alpha / (2 * tests)))


def _quantile(power: float) -> float:
    if not 0 < power < 1:
        raise InputError(f"power: must lie between 0 and 1, got {power}")
    return float(stats.norm.ppf(power))


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"power: {name} must lie in [0, 1], got {share}")

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from robustbench_med.errors import InputError
from robustbench_med.statistics.paired import clustered_mcnemar, mcnemar, mcnemar_mid, tango

COUNTS = [(0, 0), (0, 1), (5, 5), (1, 7), (16, 6), (40, 20), (0, 30)]
TABLES = [(0, 0, 20), (1, 7, 21), (6, 16, 161), (3, 3, 6), (0, 9, 9), (12, 0, 12), (40, 20, 160)]


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_mcnemar_equals_statsmodels(b, c):
    oracle = statsmodels_mcnemar([[0, b], [c, 0]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(oracle, abs=1e-10)
    assert mcnemar(c, b) == mcnemar(b, c)


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_the_mid_p_value_gives_the_observed_count_half_its_weight(b, c):
    chances = [math.comb(b + c, k) / 2 ** (b + c) for k in range(b + c + 1)]
    tail = sum(chances[: min(b, c)]) + chances[min(b, c)] / 2
    assert mcnemar_mid(b, c) == pytest.approx(2 * tail, abs=1e-12)
    assert mcnemar_mid(c, b) == pytest.approx(mcnemar_mid(b, c))
    assert mcnemar_mid(b, c) <= mcnemar(b, c)


def error_rate(test, n, chance, alpha=0.05):
    """Chance of a rejection when both kinds of discordance have the same chance."""
    law = stats.binom(n, 2 * chance)
    return sum(
        law.pmf(m) * stats.binom.pmf(b, m, 0.5)
        for m in range(n + 1)
        for b in range(m + 1)
        if test(b, m - b) <= alpha
    )


@pytest.mark.parametrize(("n", "chance"), [(15, 0.1), (30, 0.2), (35, 0.1)])
def test_both_tests_keep_the_level_and_the_mid_p_value_wastes_less(n, chance):
    exact, mid = error_rate(mcnemar, n, chance), error_rate(mcnemar_mid, n, chance)
    assert exact < mid <= 0.05


def most_likely_error(b, c, n, gap):
    """Standard error of the difference at the likeliest law with this gap, found by search."""

    def badness(second):
        chances = np.array([second + gap, second, 1 - 2 * second - gap])
        counts = np.array([b, c, n - b - c])
        seen = counts > 0
        return -(counts[seen] * np.log(np.maximum(chances[seen], 1e-300))).sum()

    found = optimize.minimize_scalar(
        badness, bounds=(max(0.0, -gap), (1 - gap) / 2), method="bounded", options={"xatol": 1e-12}
    )
    return math.sqrt((2 * found.x + gap - gap**2) / n)


@pytest.mark.parametrize(("b", "c", "n"), TABLES)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_tango_equals_a_direct_search_for_the_likeliest_law(b, c, n, level):
    z, value = stats.norm.ppf((1 + level) / 2), (b - c) / n
    low, high = tango(b, c, n, level)
    for limit, side in ((low, 1), (high, -1)):
        if abs(limit) < 1:
            score = (value - limit) / most_likely_error(b, c, n, limit)
            assert score == pytest.approx(side * z, abs=1e-4)
    assert low < value or value == -1 == low
    assert high > value or value == 1 == high


def test_tango_without_discordant_patients_has_its_closed_form():
    z = stats.norm.ppf(0.975)
    reach = z**2 / (50 + z**2)
    assert tango(0, 0, 50) == pytest.approx((-reach, reach))


@pytest.mark.parametrize(("b", "c", "n"), TABLES)
def test_swapping_the_releases_mirrors_the_interval(b, c, n):
    low, high = tango(b, c, n)
    assert tango(c, b, n) == (-high, -low)


def test_tango_holds_zero_exactly_where_mcnemars_asymptotic_test_accepts():
    for b, c in itertools.product(range(12), repeat=2):
        low, high = tango(b, c, 40)
        accepts = abs(b - c) < stats.norm.ppf(0.975) * math.sqrt(b + c) or b == c == 0
        assert (low <= 0 <= high) == accepts, (b, c)


@pytest.mark.parametrize("chances", [(0.1, 0.1), (0.2, 0.05), (0.3, 0.1)])
def test_tango_covers_by_exact_enumeration(chances):
    n, (first, second) = 25, chances
    law = stats.multinomial(n, [first, second, 1 - first - second])
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if (chance := law.pmf([b, c, n - b - c])) > 1e-7:
                low, high = tango(b, c, n)
                covered += chance * (low <= first - second <= high)
    assert 0.93 <= covered <= 0.98


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 2, 5), (3, 3, 5), (0, 0, -1)])
def test_impossible_counts_are_refused(b, c, n):
    with pytest.raises(InputError, match=r"paired: expected b, c >= 0 and b \+ c <= n"):
        tango(b, c, n)


def test_no_patients_and_impossible_levels_are_refused():
    for arguments in [(0, 0, 0, 0.95), (1, 2, 5, 1.0), (1, 2, 5, 0.0)]:
        with pytest.raises(InputError, match="paired: expected n >= 1 and 0 < level < 1"):
            tango(*arguments)
    with pytest.raises(InputError, match="paired: expected"):
        mcnemar(-1, 2)


def test_clustered_mcnemar_by_its_definition_from_the_cells():
    rng = np.random.default_rng(0)
    cells = rng.multinomial(6, [0.5, 0.2, 0.1, 0.2], size=40)
    both, b, c, _ = cells.T
    sizes, first, second = cells.sum(axis=1), both + b, both + c
    pooled = (first.sum() + second.sum()) / (2 * sizes.sum())
    one, other = first - sizes * pooled, second - sizes * pooled
    scale = 40 / 39 / sizes.sum() ** 2
    variance = scale * ((one**2).sum() + (other**2).sum() - 2 * (one * other).sum())
    gap = (first.sum() - second.sum()) / sizes.sum()
    assert clustered_mcnemar(b, c) == pytest.approx(stats.chi2.sf(gap**2 / variance, 1))


def test_one_case_per_patient_gives_mcnemar_less_one_degree_of_freedom():
    b, c = np.repeat([1, 0], [15, 85]), np.repeat([0, 1, 0], [15, 5, 80])
    expected = stats.chi2.sf(99 / 100 * 10**2 / 20, 1)
    assert clustered_mcnemar(b, c) == pytest.approx(expected)


def test_copies_of_the_cases_are_no_evidence():
    b, c = np.array([1, 0, 2, 0, 1]), np.array([0, 1, 0, 0, 0])
    assert clustered_mcnemar(9 * b, 9 * c) == pytest.approx(clustered_mcnemar(b, c))


def test_without_balance_to_tip_or_patients_to_compare():
    assert clustered_mcnemar([1, 2, 0], [1, 2, 0]) == 1.0
    assert math.isnan(clustered_mcnemar([3], [0]))


def test_clustered_mcnemar_keeps_the_level_where_images_taken_for_patients_do_not():
    rng = np.random.default_rng(1)
    rounds, patients = 2000, 60
    discordant = rng.binomial(6, rng.beta(0.6, 1.4, (rounds, patients)))
    b = rng.binomial(discordant, rng.uniform(size=(rounds, patients)))
    c = discordant - b
    naive = (b - c).sum(axis=1) ** 2 / (b + c).sum(axis=1)
    clustered = np.array([clustered_mcnemar(*counts) for counts in zip(b, c, strict=True)])
    assert (clustered <= 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (stats.chi2.sf(naive, 1) <= 0.05).mean() > 0.1

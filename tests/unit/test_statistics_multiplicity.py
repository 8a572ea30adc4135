import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from robustbench_med.errors import InputError
from robustbench_med.statistics.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    holm,
    max_t,
)

RULES = {holm: "holm", benjamini_hochberg: "fdr_bh", benjamini_yekutieli: "fdr_by"}
RNG = np.random.default_rng(0)
FAMILIES = [
    np.array([0.03]),
    np.array([0.5, 0.5, 0.5]),
    np.array([0.0, 1.0, 0.02, 0.02, 0.001]),
    RNG.uniform(size=40),
    RNG.uniform(size=200) ** 6,
    np.round(RNG.uniform(size=60), 1),
]


@pytest.mark.parametrize(("rule", "name"), RULES.items())
@pytest.mark.parametrize("p", FAMILIES, ids=len)
def test_each_rule_equals_statsmodels(rule, name, p):
    assert rule(p) == pytest.approx(multipletests(p, method=name)[1], abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_test_that_was_not_made_passes_through_and_is_not_counted(rule):
    given = np.array([0.01, math.nan, 0.04, math.nan, 0.2])
    made = ~np.isnan(given)
    adjusted = rule(given)
    assert adjusted[made] == pytest.approx(rule(given[made]))
    assert np.isnan(adjusted[~made]).all()
    assert np.isnan(rule([math.nan, math.nan])).all()
    assert rule([]).shape == (0,)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_family_does_not_matter(rule):
    p = FAMILIES[4]
    shuffle = np.random.default_rng(1).permutation(len(p))
    assert rule(p[shuffle]) == pytest.approx(rule(p)[shuffle])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("wrong", [-0.1, 1.2])
def test_a_number_that_is_no_p_value_is_refused(rule, wrong):
    with pytest.raises(InputError, match=rf"got {wrong} at place 1"):
        rule([0.5, wrong])


def false_discovery_rate(rule, slices, real, alpha=0.1, rounds=1000):
    rng = np.random.default_rng(slices + real)
    effects = np.repeat([4.0, 0.0], [real, slices - real])
    shares = []
    for _ in range(rounds):
        found = rule(2 * stats.norm.sf(np.abs(rng.normal(effects)))) <= alpha
        shares.append(found[real:].sum() / max(1, found.sum()))
    return np.mean(shares)


def positions_for_ranks(p):
    """A known mistake: the sorting positions are taken for the ranks."""
    ranked = p * len(p) / (np.argsort(p) + 1)
    below = p[ranked <= 0.1]
    limit = below.max() if len(below) else -1.0
    return np.where(p <= limit, 0.0, 1.0)


@pytest.mark.parametrize(("slices", "real"), [(20, 0), (60, 0), (60, 5)])
def test_false_discoveries_stay_at_the_level_which_the_known_mistake_does_not(slices, real):
    assert false_discovery_rate(benjamini_hochberg, slices, real) <= 0.1 + 0.02
    assert false_discovery_rate(positions_for_ranks, slices, real) > 0.25


def test_max_t_by_hand():
    observed = np.array([1.0, -3.0, math.nan, 2.0])
    replicates = np.array(
        [
            [0.5, 0.1, 9.0, 0.2],
            [-2.5, 0.1, 9.0, 0.2],
            [0.0, -3.0, 9.0, 1.0],
            [1.5, math.nan, 9.0, -2.0],
        ]
    )
    # steps: 3 against the largest of all (0.5 2.5 3 2), 2 without it (0.5 2.5 1 2), then 1
    assert max_t(observed, replicates) == pytest.approx(
        [3 / 5, 2 / 5, math.nan, 3 / 5], nan_ok=True
    )


def test_later_steps_are_never_more_significant_than_earlier_ones():
    observed = np.array([3.0, 2.9])
    replicates = np.array([[5.0, 0.0], [4.0, 0.1], [0.0, 0.2]])
    assert max_t(observed, replicates) == pytest.approx([3 / 4, 3 / 4])


def test_infinite_replicates_count_as_larger_and_undefined_ones_as_zero():
    column = np.array([[math.inf], [-math.inf], [math.nan], [0.0]])
    assert max_t(np.array([50.0]), column) == pytest.approx([3 / 5])


def test_one_test_has_the_p_value_of_its_own_resamples():
    rng = np.random.default_rng(2)
    draws, observed = rng.normal(size=(500, 1)), np.array([1.3])
    expected = (1 + (np.abs(draws) >= 1.3).sum()) / 501
    assert max_t(observed, draws) == pytest.approx([expected])
    assert max_t(np.array([math.nan]), draws) == pytest.approx([math.nan], nan_ok=True)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(InputError, match=r"\(k,\) and \(draws, k\), got \(3,\) and \(5, 2\)"):
        max_t(np.zeros(3), np.zeros((5, 2)))


def correlated_patients(rng, patients=80, groups=20, shared=0.9):
    common = rng.normal(size=(patients, 1))
    own = rng.normal(size=(patients, groups))
    return math.sqrt(shared) * common + math.sqrt(1 - shared) * own


def studentised_draws(values, rng, draws=199):
    """Observed t, and replicates of the patient bootstrap about the estimate."""
    patients = len(values)
    counts = rng.multinomial(patients, np.full(patients, 1 / patients), size=draws)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(patients)
    means = counts @ values / patients
    spreads = counts @ np.square(values) / patients - np.square(means)
    return mean / error, (means - mean) / np.sqrt(spreads / (patients - 1))


def test_max_t_keeps_the_family_and_finds_more_than_holm_where_tests_move_together():
    rng = np.random.default_rng(3)
    alarms, found_by_max_t, found_by_holm = 0, 0, 0
    rounds, planted = 400, np.repeat([0.3, 0.0], [3, 17])
    for _ in range(rounds):
        values = correlated_patients(rng)
        alarms += (max_t(*studentised_draws(values, rng)) <= 0.05).any()
        observed, draws = studentised_draws(values + planted, rng)
        found_by_max_t += (max_t(observed, draws)[:3] <= 0.05).sum()
        found_by_holm += (holm(2 * stats.t.sf(np.abs(observed), 79))[:3] <= 0.05).sum()
    # three standard errors of a rate of 0.05 in 400 rounds
    assert alarms / rounds <= 0.05 + 0.033
    assert found_by_max_t > 1.3 * found_by_holm

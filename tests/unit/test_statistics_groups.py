import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from robustbench_med.statistics.study import findings_of, open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables = FIXTURE["tables"]
RNG = np.random.default_rng(0)
SEX = np.tile(np.array(["F", "M", "F"], dtype=object), 30)
CLEAN = RNG.normal(30, 3, 90)


def findings(values, metrics=None, sexes=SEX, **more):
    study = open_study(
        *tables(values, metrics, attributes={"sex": sexes}, subgroups=[["sex"]], **more)
    )
    return study, {found.group.group: found for found in findings_of(study, [["sex"]])}


def test_a_group_has_its_estimates_its_changes_and_its_gap():
    pgd = CLEAN - RNG.gamma(2, size=90)
    study, found = findings({"psnr": {"clean": CLEAN, "pgd[b]": pgd}})
    women = found["F"]
    chosen = SEX == "F"
    assert list(found) == ["all", "F", "M"]
    assert [probe.name for _, probe in study.columns] == ["clean", "pgd[b]", "worst[b]"]
    np.testing.assert_array_equal(women.chosen, chosen)
    assert women.estimates[1].value == pytest.approx(pgd[chosen].mean())
    assert women.errors[1] == pytest.approx(stats.sem(pgd[chosen]))
    assert women.patients.tolist() == women.deciding.tolist() == [60, 60, 60]
    assert women.counts.tolist() == [[60, 60, 60], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert women.draws.shape == (2000, 3)
    assert women.changes[1].value == pytest.approx((pgd - CLEAN)[chosen].mean())
    gap = women.gap.differences[0].value
    assert gap == pytest.approx(CLEAN[chosen].mean() - CLEAN[~chosen].mean())
    assert women.compared.all()


def test_everyone_has_neither_gap_nor_interactions():
    _, found = findings({"psnr": {"clean": CLEAN, "gamma@2": CLEAN - 1}})
    everyone = found["all"]
    assert everyone.gap is None
    assert not everyone.compared.any()
    assert all(np.isnan(interaction.value) for interaction in everyone.interactions)
    assert everyone.changes[1].value == pytest.approx(-1)


def test_an_interaction_is_how_much_more_a_group_changes_than_the_rest():
    women = SEX == "F"
    off = RNG.gamma(4, size=90) * np.where(women, 1.0, 2.0)
    _, found = findings({"psnr": {"clean": CLEAN, "gamma@2": CLEAN - off}})
    one, other = found["F"].interactions[1], found["M"].interactions[1]
    expected = off[~women].mean() - off[women].mean()
    assert one.value == pytest.approx(expected)
    welch = stats.ttest_ind(-off[women], -off[~women], equal_var=False)
    assert (one.low, one.high) == pytest.approx(welch.confidence_interval(), abs=0.5)
    assert one.p < 0.01
    assert welch.pvalue < 0.01
    assert (one.value, one.p) == (-other.value, other.p)
    assert np.isnan(found["F"].interactions[0].value)


def test_an_interaction_agrees_with_its_interval():
    apart = 0
    for size in np.linspace(-0.5, 0.5, 11):
        off = RNG.gamma(4, size=90) + size * 2 * (SEX == "F")
        _, found = findings({"psnr": {"clean": CLEAN, "gamma@2": CLEAN - off}})
        one = found["F"].interactions[1]
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0)
        apart += one.p < 0.05
    assert 0 < apart < 11


def test_a_side_of_whom_none_changes_is_not_certain_never_to_change():
    flags = np.ones(90)
    fallen = flags.copy()
    fallen[np.flatnonzero(SEX == "F")[:12]] = 0
    _, found = findings({"correct": {"clean": flags, "gamma@2": fallen}})
    interaction = found["F"].interactions[1]
    assert interaction.value == pytest.approx(-12 / 60)
    assert np.isnan([interaction.low, interaction.high, interaction.p]).all()


def test_infinite_values_leave_gaps_changes_and_interactions_without_a_number():
    endless = CLEAN.copy()
    endless[:4] = np.inf
    _, found = findings({"psnr": {"clean": endless, "pgd[b]": endless, "gamma@2": CLEAN}})
    women = found["F"]
    assert women.estimates[0].value == np.inf
    assert np.isnan(women.gap.differences[0].value)
    assert np.isnan(women.changes[1].value)
    assert np.isnan(women.interactions[2].value)
    assert np.isfinite(women.gap.differences[2].value)


def test_what_is_compared_depends_on_who_has_a_value():
    lost = CLEAN.copy()
    lost[np.flatnonzero(SEX == "M")[9:]] = np.nan
    _, found = findings({"psnr": {"clean": CLEAN, "gamma@2": lost}})
    for sex in "FM":
        assert found[sex].compared.tolist() == [True, False]
    assert found["M"].deciding.tolist() == [30, 9]
    assert found["F"].gap.rest.portion.deciding.tolist() == [30, 9]

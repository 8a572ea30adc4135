import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.proportion import proportion_confint

from robustbench_med.statistics import gaps
from robustbench_med.statistics.gaps import GAPS, gaps_of
from robustbench_med.statistics.study import findings_of, open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables, row = FIXTURE["tables"], FIXTURE["row"]
SITES = np.repeat(np.array(["A", "B", "C", "D"], dtype=object), [40, 25, 30, 15])
SHIFTS = np.repeat([0.0, -1.2, 0.4, 0.1], [40, 25, 30, 15])


def gaps_in(values, metrics=None, subgroups=(("site",),), who=None, seed=1, **attributes):
    attributes = {"site": SITES, **attributes}
    study = open_study(
        *tables(values, metrics, who=who, attributes=attributes, subgroups=subgroups)
    )
    return gaps_of(study, findings_of(study, [list(columns) for columns in subgroups]), seed)


@cache
def some_values(seed=0):
    rng = np.random.default_rng(seed)
    return 30 + SHIFTS + rng.normal(0, 1, 110)


def by_site(values):
    return [values[site == SITES] for site in "ABCD"]


def test_one_row_per_probe_metric_and_subgroup():
    values = some_values()
    sexes = np.array(["F", "M"], dtype=object)[np.arange(110) % 2]
    table = gaps_in(
        {"psnr": {"clean": values, "pgd[b]": values - 1}, "correct": {"clean": values > 30}},
        subgroups=(("site",), ("sex",), ("sex", "site")), sex=sexes,
    )  # fmt: skip
    assert table.columns.tolist() == GAPS.names
    assert table["subgroup"].unique().tolist() == ["site", "sex", "sex \u00d7 site"]
    assert table.groupby("subgroup").size().tolist() == [4, 4, 4]
    one = row(table, subgroup="site", metric="psnr", probe="pgd[b]")
    assert (one["kind"], one["level"], one["better"], one["groups"]) == ("attack", 0.1, "higher", 4)
    assert row(table, subgroup="sex \u00d7 site", metric="correct")["groups"] == 6  # D is 7 and 8


@pytest.mark.parametrize(
    ("better", "worst"), [("higher", "B"), ("lower", "C"), ("zero", "D"), ("one", "A")]
)
def test_the_worst_group_is_worst_as_the_metric_says(better, worst):
    centres = {"higher": [0.2, -1, 0.5, 0], "lower": [0.2, -1, 2, 0], "zero": [0, 1, -1, -3],
               "one": [-3, 1, 4.5, 2]}[better]  # fmt: skip
    values = np.repeat(centres, [40, 25, 30, 15]) + np.random.default_rng(0).normal(0, 0.1, 110)
    (found,) = gaps_in({"m": {"clean": values}}, {"m": {"better": better}}).head(1).itertuples()
    assert found.worst == worst
    assert found.worst_value == pytest.approx(values[worst == SITES].mean())


def test_the_worst_group_is_shrunk_by_the_variance_of_statsmodels():
    values = some_values()
    (found,) = gaps_in({"psnr": {"clean": values}}).itertuples()
    means = np.array([part.mean() for part in by_site(values)])
    variances = np.array([stats.sem(part) ** 2 for part in by_site(values)])
    oracle = combine_effects(means, variances, method_re="dl")
    kept = oracle.tau2 / (oracle.tau2 + variances[1])
    centre = np.average(means, weights=1 / (oracle.tau2 + variances))
    assert found.worst_corrected == pytest.approx(centre + kept * (means[1] - centre))
    assert found.spread == pytest.approx(np.sqrt(oracle.tau2))
    assert found.worst_value < found.worst_corrected < means.mean()


def test_limits_of_the_worst_mean_hold_for_all_groups_at_once():
    values = some_values()
    study = open_study(*tables({"psnr": {"clean": values}}, attributes={"site": SITES}))
    (found,) = gaps_in({"psnr": {"clean": values}}).itertuples()
    t = []
    for site in "ABCD":
        own, times = values[site == SITES], study.drawn.table[:, site == SITES].astype(float)
        drawn = times.sum(axis=1)
        means = times @ own / drawn
        variance = (times @ own**2 - drawn * means**2) / (drawn - 1)
        t.append(np.abs(means - own.mean()) / np.sqrt(variance / drawn))
    part = values[SITES == "B"]
    reach = np.sort(np.max(t, axis=0))[int(0.95 * 2001) - 1] * stats.sem(part)
    assert found.worst_low == pytest.approx(part.mean() - reach, rel=1e-4)
    assert found.worst_high == pytest.approx(part.mean() + reach, rel=1e-4)
    assert reach > stats.t.isf(0.025, 24) * stats.sem(part)


def test_limits_of_the_worst_share_are_wilsons_at_bonferronis_level():
    flags = (some_values() > 29.5).astype(float)
    (found,) = gaps_in({"correct": {"clean": flags}}).itertuples()
    assert found.worst == "B"
    oracle = proportion_confint(flags[SITES == "B"].sum(), 25, alpha=0.05 / 4, method="wilson")
    assert (found.worst_low, found.worst_high) == pytest.approx(oracle, abs=1e-10)


def test_the_range_is_held_against_shuffles():
    values = some_values()
    table = gaps_in({"psnr": {"clean": values, "gamma@1": values}})
    found, shifted = row(table, probe="clean"), row(table, probe="gamma@1")
    means = [part.mean() for part in by_site(values)]
    assert found["range"] == pytest.approx(max(means) - min(means))
    rng, sizes = np.random.default_rng(5), np.cumsum([40, 25, 30])
    shuffled = [
        np.ptp([part.mean() for part in np.split(rng.permutation(values), sizes)])
        for _ in range(2000)
    ]
    assert found["range_by_chance"] == pytest.approx(np.mean(shuffled), rel=0.05)
    assert found["range_p"] == pytest.approx(1 / 2001)
    assert np.isnan([shifted["range"], shifted["range_p"], shifted["range_by_chance"]]).all()


def test_figures_that_no_patient_adds_to_are_not_shuffled():
    rng = np.random.default_rng(0)
    table = gaps_in(
        {"m": {"clean": rng.beta(3, 2, 110)}, "m.true": {"clean": rng.integers(0, 2, 110)}},
        {"m": {"reads": "detection", "threshold": 0.5}},
    )
    assert np.isnan(row(table, metric="m.auc")["range"])
    assert row(table, metric="m.auc")["worst"] in set("ABC")
    assert np.isfinite(row(table, metric="m.sensitivity")["range_p"])


def test_two_groups_differ_as_surely_as_one_from_its_rest():
    values = some_values()
    sexes = np.array(["F", "M"], dtype=object)[np.arange(110) % 2]
    values = values + 0.5 * (sexes == "F")
    study = open_study(*tables({"psnr": {"clean": values}}, attributes={"sex": sexes}))
    findings = findings_of(study, [["sex"]])
    (found,) = gaps_of(study, findings, 1).itertuples()
    assert found.p_any == pytest.approx(findings[1].gap.differences[0].p, abs=2 / 2001)
    assert 0.001 < found.p_any < 0.2


def test_groups_of_few_patients_or_without_a_finite_value_are_left_out():
    values = some_values().copy()
    values[np.flatnonzero(SITES == "B")[9:]] = np.nan
    values[SITES == "C"] = np.inf
    (found,) = gaps_in({"psnr": {"clean": values}}).itertuples()
    assert found.groups == 2
    values[SITES == "D"] = np.nan
    assert gaps_in({"psnr": {"clean": values}}).empty


def test_equal_values_leave_a_worst_group_without_limits():
    (found,) = gaps_in({"psnr": {"clean": np.full(110, 31.5)}}).itertuples()
    assert (found.worst_value, found.range, found.range_p) == (31.5, 0, 1)
    assert np.isnan([found.worst_low, found.worst_corrected, found.p_any, found.spread]).all()


def test_very_many_patients_are_not_shuffled(monkeypatch):
    monkeypatch.setattr(gaps, "SHUFFLED_UP_TO", 100)
    (found,) = gaps_in({"psnr": {"clean": some_values()}}).itertuples()
    assert np.isnan(found.range)
    assert np.isfinite(found.p_any)


def test_the_order_of_cases_and_copies_of_them_move_nothing():
    values = some_values()
    once = gaps_in({"psnr": {"clean": values}})
    again = gaps_in({"psnr": {"clean": values}})
    for column in once:
        assert once[column].tolist() == again[column].tolist()
    who = np.repeat(np.arange(110), 3)
    study = open_study(*tables({"psnr": {"clean": values[who]}}, who=who,
                               attributes={"site": SITES[who]}))  # fmt: skip
    often = gaps_of(study, findings_of(study, [["site"]]), 1)
    numbers = once.select_dtypes("number").columns
    np.testing.assert_allclose(once[numbers], often[numbers], rtol=1e-4)


@cache
def without_gaps(probes=150):
    """The same groups many times over, each probe another draw; nothing differs."""
    rng = np.random.default_rng(3)
    values = {f"gamma@{k}": rng.gamma(3, size=110) for k in range(probes)}
    flags = {name: (v > 2).astype(float) for name, v in values.items()}
    return gaps_in({"nmse": values, "correct": flags}, {"nmse": {"better": "lower"}})


@pytest.mark.parametrize(("metric", "truth"), [("nmse", 3.0), ("correct", stats.gamma.sf(2, 3))])
def test_where_nothing_differs_alarms_are_rare_and_limits_hold(metric, truth):
    table = without_gaps()
    table = table[table["metric"] == metric]
    assert len(table) == 150
    assert (table["p_any"] < 0.05).mean() <= 0.09
    held = (table["worst_low"] <= truth) & (truth <= table["worst_high"])
    assert held.mean() >= 0.91
    bias = table["worst_value"] - truth
    corrected = table["worst_corrected"].dropna() - truth
    assert abs(corrected.mean()) < 0.5 * abs(bias.mean())

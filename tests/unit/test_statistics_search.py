import runpy
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from robustbench_med.errors import InputError
from robustbench_med.statistics.search import SEARCH, describable, search_of
from robustbench_med.statistics.study import findings_of, in_group, open_study
from robustbench_med.statistics.table import estimates_of

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables, row = FIXTURE["tables"], FIXTURE["row"]
SEXES, BANDS = (
    np.array(["F", "M"], dtype=object),
    np.array(["18-40", "40-65", "65-90"], dtype=object),
)
CROSS = " \u00d7 "


@cache
def people(patients=480):
    """As many of each sex and age band, at sites and with scanners by chance."""
    rng = np.random.default_rng(0)
    place = np.arange(patients)
    return {
        "sex": SEXES[place % 2],
        "age": BANDS[place // 2 % 3],
        "site": np.array(["A", "B", "C", "D"], dtype=object)[rng.integers(0, 4, patients)],
        "scanner": np.array(["x", "y"], dtype=object)[rng.integers(0, 2, patients)],
    }


def planted(shift):
    """Worse for old women and young men, better for old men and young women: no marginal gap."""
    who = people()
    old, young = (who["age"] == BANDS[k] for k in (2, 0))
    women = who["sex"] == "F"
    return shift * (((women & old) | (~women & young)) * 1.0 - ((~women & old) | (women & young)))


def searched(values, attributes=("sex", "age", "site", "scanner"), metrics=None, **more):
    made = more.pop("made", None) or people()
    study = open_study(*tables(values, metrics, attributes=made, **more))
    return search_of(study, list(attributes))


def test_a_planted_intersection_is_found_though_no_marginal_shows_it():
    rng = np.random.default_rng(1)
    values = 30 + rng.normal(0, 2, 480)
    table = searched({"psnr": {"clean": values - planted(1.2)}})
    assert table.columns.tolist() == SEARCH.names
    found = table[table["p_joint"] < 0.05]
    worst = table.loc[table["difference"].idxmin()]
    assert worst["group"] in (f"F{CROSS}65-90", f"M{CROSS}18-40")
    crossed = {f"{sex}{CROSS}{band}" for sex in "FM" for band in ("18-40", "65-90")}
    assert crossed <= set(found["group"])
    assert (table.loc[table["subgroup"].isin(["sex", "age"]), "p_joint"] > 0.05).all()


def test_a_planted_intersection_in_a_share_is_found_too():
    rng = np.random.default_rng(2)
    right = (rng.random(480) < 0.85 - planted(0.13)).astype(float)
    table = searched({"correct": {"clean": right}})
    assert row(table, group=f"F{CROSS}65-90")["p_joint"] < 0.05
    assert (table.loc[table["subgroup"].isin(["sex", "age"]), "p_joint"] > 0.05).all()


def test_where_nothing_is_planted_the_same_values_raise_no_alarm():
    rng = np.random.default_rng(1)
    values = 30 + rng.normal(0, 2, 480) - planted(1.2)
    flags = (rng.random(480) < 0.85 - planted(0.13)).astype(float)
    shuffled = rng.permutation(480)
    table = searched({"psnr": {"clean": values[shuffled]}, "correct": {"clean": flags[shuffled]}})
    assert (table["p"] < 0.05).any()
    assert (table["p_joint"] > 0.05).all()


@cache
def without_gaps(probes=120):
    rng = np.random.default_rng(5)
    values = {f"gamma@{k}": rng.gamma(3, size=480) for k in range(probes)}
    flags = {name: (v > 1).astype(float) for name, v in values.items()}
    return searched({"nmse": values, "correct": flags}, ["sex", "age", "site"])


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["nmse", "correct"])
def test_alarms_are_rare_among_many_groups_of_no_difference(metric):
    table = without_gaps()
    least = table[table["metric"] == metric].groupby("probe")[["p", "p_joint"]].min()
    assert len(least) == 120
    assert (least["p_joint"] < 0.05).mean() <= 0.1
    assert (least["p"] < 0.05).mean() > 0.4


def test_joint_and_discovery_p_values_run_over_all_searched_groups():
    rng = np.random.default_rng(3)
    values = rng.gamma(2, size=480) + planted(0.3)
    made = people()
    study = open_study(*tables({"nmse": {"clean": values}}, attributes=made))
    attributes = ["sex", "age", "site"]
    table = search_of(study, attributes)
    groups = [group for group, _ in describable(study, attributes)]
    gaps = [in_group(study, group).gap for group in groups]
    p = np.array([gap.differences[0].p for gap in gaps])
    largest = np.max([np.abs(gap.draws[:, 0]) for gap in gaps], axis=0)
    assert len(groups) == 2 + 3 + 4 + 6 + 8 + 12
    assert table["group"].tolist() == [group.group for group in groups]
    assert table["p"].tolist() == p.tolist()
    assert table["p_bh"].to_numpy() == pytest.approx(multipletests(p, method="fdr_bh")[1])
    expected = [(1 + (largest >= abs(gap.statistic[0])).sum()) / 2001 for gap in gaps]
    assert table["p_joint"].to_numpy() == pytest.approx(expected)
    assert set(table["searched"]) == {35}


def test_a_searched_group_has_the_numbers_of_a_declared_one():
    rng = np.random.default_rng(4)
    values = {
        "psnr": {"clean": rng.normal(30, 2, 480)},
        "correct": {"clean": rng.integers(0, 2, 480)},
    }
    study = open_study(*tables(values, attributes=people()))
    table = search_of(study, ["sex", "age"])
    estimates = estimates_of(study, findings_of(study, [["sex", "age"], ["sex"]]))
    shared = ["patients", "value", "low", "high", "rest_value", "difference", "difference_low",
              "difference_high", "p"]  # fmt: skip
    for metric in ("psnr", "correct"):
        for group in ("F", f"M{CROSS}40-65"):
            found = row(table, metric=metric, group=group)[shared]
            declared = row(estimates, metric=metric, group=group)[shared]
            assert found.tolist() == pytest.approx(declared.tolist(), rel=1e-4, abs=1e-6)


def test_attributes_of_very_many_values_describe_nobody():
    made = people() | {"age": np.array([f"{k}" for k in np.arange(480) % 40], dtype=object)}
    values = {"psnr": {"clean": np.random.default_rng(0).normal(size=480)}}
    table = searched(values, ["sex", "age", "site"], made=made)
    assert set(table["subgroup"]) == {"sex", "site", f"sex{CROSS}site"}
    dozen = people() | {"age": np.array([f"{k}" for k in np.arange(480) % 12], dtype=object)}
    assert "age" in set(searched(values, ["sex", "age"], made=dozen)["subgroup"])


def test_groups_of_the_same_cases_are_looked_at_once():
    made = people() | {"gender": np.where(people()["sex"] == "F", "w", "m").astype(object)}
    values = {"psnr": {"clean": np.random.default_rng(0).normal(size=480)}}
    table = searched(values, ["sex", "gender", "age"], made=made)
    alone = searched(values, ["sex", "age"])
    assert set(table["subgroup"]) == {"sex", "age", f"sex{CROSS}age"}
    assert table["p_joint"].tolist() == alone["p_joint"].tolist()
    assert set(table["searched"]) == {11}


def test_only_groups_of_twenty_patients_on_both_sides_are_described():
    sizes = [19, 20, 21, 60]
    made = {"site": np.repeat(np.array(["A", "B", "C", "D"], dtype=object), sizes),
            "most": np.repeat(np.array(["yes", "no"], dtype=object), [101, 19])}  # fmt: skip
    values = np.random.default_rng(0).normal(size=120)
    table = searched({"psnr": {"clean": values}}, ["site", "most"], made=made)
    assert set(table["group"]) == {"B", "C", "D", f"D{CROSS}yes"}
    values[20] = np.nan  # of site B: 19 are left
    table = searched({"psnr": {"clean": values}}, ["site"], made=made)
    assert set(table["group"]) == {"C", "D"}
    twice = np.repeat(np.arange(60), 2)
    halved = {name: column[: 2 * 60] for name, column in made.items()}
    found = searched({"psnr": {"clean": np.arange(120.0)}}, ["site"], made=halved, who=twice)
    assert set(found["group"]) == {"D"}


def test_the_most_is_two_attributes_at_once():
    values = {"psnr": {"clean": np.random.default_rng(0).normal(size=480)}}
    table = searched(values)
    named = ("sex", "age", "site", "scanner")
    pairs = {CROSS.join(pair) for pair in combinations(named, 2)}
    assert set(table["subgroup"]) == {*named, *pairs}


def test_figures_that_no_patient_adds_to_are_not_searched():
    rng = np.random.default_rng(6)
    values = {"m": {"clean": rng.beta(3, 2, 480)}, "m.true": {"clean": rng.integers(0, 2, 480)},
              "error": {"clean": rng.normal(size=480)}}  # fmt: skip
    metrics = {"m": {"reads": "detection", "threshold": 0.5}, "error": {"better": "zero"}}
    table = searched(values, ["sex"], metrics)
    assert set(table["metric"]) == {
        "m",
        "m.sensitivity",
        "m.specificity",
        "m.ppv",
        "m.npv",
        "error",
    }


def test_an_unknown_attribute_is_refused_and_none_finds_nothing():
    values = {"psnr": {"clean": np.random.default_rng(0).normal(size=480)}}
    with pytest.raises(InputError, match=r"no attribute 'sexe'.*'sex'"):
        searched(values, ["sexe"])
    assert searched(values, []).empty


def test_the_order_of_rows_and_copies_of_cases_move_nothing():
    rng = np.random.default_rng(7)
    values = rng.gamma(2, size=480)
    made = people()
    run = tables({"nmse": {"clean": values}}, attributes=made)
    table = search_of(open_study(*run), ["sex", "site"])
    shuffled = (run[0].sample(frac=1, random_state=1), run[1].iloc[::-1], *run[2:])
    assert table.equals(search_of(open_study(*shuffled), ["sex", "site"]))
    who = np.repeat(np.arange(480), 2)
    copied = tables(
        {"nmse": {"clean": values[who]}}, who=who,
        attributes={name: column[who] for name, column in made.items()},
    )  # fmt: skip
    often = search_of(open_study(*copied), ["sex", "site"])
    numbers = table.select_dtypes("number").columns
    np.testing.assert_allclose(table[numbers], often[numbers], rtol=1e-3)

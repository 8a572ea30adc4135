import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from robustbench_med.statistics.families import adjust
from robustbench_med.statistics.study import findings_of, open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables = FIXTURE["tables"]
SUBGROUPS = [["sex"], ["site"], ["sex", "site"]]


@cache
def a_study(seed=0, gap=0.0):
    """Of 150 patients; men of site A are worse by `gap`."""
    rng = np.random.default_rng(seed)
    sexes = np.array(["F", "M"], dtype=object)[rng.integers(0, 2, 150)]
    sites = np.array(["A", "B", "C", "D"], dtype=object)[
        rng.choice(4, 150, p=[0.4, 0.3, 0.27, 0.03])
    ]
    planted = gap * ((sexes == "M") & (sites == "A"))
    shared = rng.normal(0, 1, 150)
    values = {"psnr": {}, "correct": {}}
    for probe, noise in (("clean", 0.5), ("fgsm[b]", 1.0), ("pgd[b]", 1.0), ("gamma@2", 1.5)):
        values["psnr"][probe] = 30 + shared - planted + rng.normal(0, noise, 150)
        values["correct"][probe] = values["psnr"][probe] > 29.5
    run = tables(values, attributes={"sex": sexes, "site": sites}, subgroups=SUBGROUPS)
    study = open_study(*run)
    findings = findings_of(study, SUBGROUPS)
    return study, findings, adjust(study, findings)


def names(findings):
    return [found.group.group for found in findings]


def p_of(findings, places, column):
    return np.array([findings[place].gap.differences[column].p for place in places])


DISTINCT = ["F", "A", "B", "C", "F \u00d7 A", "F \u00d7 B", "F \u00d7 C",
            "M \u00d7 A", "M \u00d7 B", "M \u00d7 C"]  # fmt: skip


def test_holm_runs_over_the_groups_under_each_probe_and_metric():
    study, findings, found = a_study(gap=1.0)
    places = [names(findings).index(name) for name in DISTINCT]
    for column in range(len(study.columns)):
        oracle = multipletests(p_of(findings, places, column), method="holm")[1]
        assert found.holm[places, column] == pytest.approx(oracle, abs=1e-12)
    assert (found.tests == 10).all()
    assert (found.holm[places] < 0.05).any()


def test_interactions_are_a_family_of_their_own():
    study, findings, found = a_study(gap=1.0)
    places = [names(findings).index(name) for name in DISTINCT]
    checked = 0
    for column, (_, probe) in enumerate(study.columns):
        p = np.array([findings[place].interactions[column].p for place in places])
        made = ~np.isnan(p)
        assert made.any() == (probe.kind != "clean")
        if made.any():
            oracle = multipletests(p[made], method="holm")[1]
            assert found.interaction[places, column][made] == pytest.approx(oracle, abs=1e-12)
            checked += 1
    assert checked == 8


def test_a_group_and_its_complement_are_one_test_with_one_answer():
    _, findings, found = a_study(gap=1.0)
    women, men = (names(findings).index(sex) for sex in "FM")
    for part in (found.holm, found.joint, found.interaction):
        np.testing.assert_array_equal(part[women], part[men])


def test_everyone_and_groups_of_too_few_are_not_tested():
    study, findings, found = a_study()
    few = [k for k, each in enumerate(findings) if each.deciding[0] < 10]
    assert {"D", "M \u00d7 D"} & {findings[k].group.group for k in few}
    for part in (found.holm, found.joint, found.interaction):
        assert np.isnan(part[[0, *few]]).all()
    assert part.shape == (len(findings), len(study.columns))


def test_joint_p_values_run_over_all_groups_and_probes_of_a_metric():
    study, findings, found = a_study(gap=0.7)
    places = [names(findings).index(name) for name in DISTINCT]
    for metric in ("psnr", "correct"):
        columns = [k for k, (reading, _) in enumerate(study.columns) if reading.metric == metric]
        tests = [(place, column) for place in places for column in columns]
        size = np.array([abs(findings[g].gap.statistic[c]) for g, c in tests])
        draws = np.abs(np.stack([findings[g].gap.draws[:, c] for g, c in tests], axis=1))
        expected, so_far = {}, 0.0
        for k in np.argsort(-size, kind="stable"):
            left = size <= size[k]
            beyond = (draws[:, left].max(axis=1) >= size[k]).sum()
            so_far = max(so_far, (1 + beyond) / 2001)
            expected[tests[k]] = so_far
        for test, p in expected.items():
            assert found.joint[test] == pytest.approx(p)


@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0])
def test_joint_p_values_are_never_too_small_nor_much_above_holms(gap):
    study, findings, found = a_study(gap=gap)
    places = [names(findings).index(name) for name in DISTINCT]
    made = found.joint[~np.isnan(found.joint)]
    assert made.min() >= 1 / 2001
    assert made.max() <= 1
    for metric in ("psnr", "correct"):
        columns = [k for k, (reading, _) in enumerate(study.columns) if reading.metric == metric]
        p = np.array([p_of(findings, places, column) for column in columns]).ravel()
        joint = found.joint[np.ix_(places, columns)].T.ravel()
        oracle = multipletests(p, method="holm")[1]
        # Each test adds at most two draws' worth of rounding to what Bonferroni would say.
        assert (joint <= oracle + (2 * len(p) + 1) / 2001).all()
        assert (joint >= p - 3 / 2001).all()
        if gap == 3.0:
            assert joint.min() < 0.01


def test_dependent_tests_cost_less_jointly_than_by_holm():
    study, findings, found = a_study(gap=0.7)
    places = [names(findings).index(name) for name in DISTINCT]
    columns = [k for k, (reading, _) in enumerate(study.columns) if reading.metric == "psnr"]
    p = np.array([p_of(findings, places, column) for column in columns])
    joint = found.joint[np.ix_(places, columns)].T
    holm = multipletests(p.ravel(), method="holm")[1].reshape(p.shape)
    middling = (holm > 0.05) & (holm < 0.9)
    assert middling.sum() > 3
    assert (joint < holm)[middling].all()

"""The table of parameters that searches found, against values worked out by hand."""

from types import SimpleNamespace

import pandas as pd

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.physics import Physics
from robustbench_med.attacks.random_draws import RandomDraws
from robustbench_med.components import build
from robustbench_med.reports.shifts import shifts
from robustbench_med.reports.wording import DASH
from robustbench_med.reports.worst_found import worst_found
from robustbench_med.searching import Then, searched, searched_then
from robustbench_med.threat import Ball

GAMMA = build("shifts", "gamma")
PAIR = build("shifts", "joint")


def own(model, batch, ranges, apply, rng):
    """A search of somebody's own, without a budget."""


def entry(probe):
    return {
        "name": probe.name, "kind": probe.kind, "level": probe.level,
        "settings": probe.spec["measure"],
    }  # fmt: skip


def evidence(probes, values, patients=None):
    """As a run leaves it: `values` by probe and metric, one a case."""
    count = max(len(v) for each in values.values() for v in each.values())
    cases = [f"c{i}" for i in range(count)]
    rows = [
        (case, probe.name, probe.kind, probe.level, metric, value)
        for probe in probes
        for metric, each in values.get(probe.name, {}).items()
        for case, value in zip(cases, each, strict=False)
    ]
    columns = ["case_id", "probe", "kind", "level", "metric", "value"]
    owners = patients or [f"p{i}" for i in range(count)]
    return SimpleNamespace(
        manifest={"probes": [entry(p) for p in probes], "metrics": {}},
        records=pd.DataFrame(rows, columns=columns),
        cases=pd.DataFrame({"case_id": cases, "patient_id": owners}),
        estimates=pd.DataFrame(columns=["metric", "kind"]),
    )


def test_each_parameter_has_its_median_range_and_the_search_s_budget():
    plain = searched("gamma", Physics(48), GAMMA, 2.0, {})
    drawn = searched("gamma", RandomDraws(32), GAMMA, 1.0, {})
    small = Then("pgd", Pgd(), Ball("linf", 0.01))
    after = searched_then("joint", Physics(96), PAIR, 1.0, {}, small)
    mine = searched("own", own, GAMMA, 1.0, {})
    gammas = [-0.3] * 5 + [0.1] * 2 + [0.3] * 4
    values = {
        plain.name: {"correct": [1.0] * 11, "found.log_gamma": gammas},
        drawn.name: {"found.log_gamma": [0.15] * 11},
        after.name: {
            "found.first_log_gamma": [0.0] * 10 + [0.05],
            "found.second_power_0_1": [float(i) for i in range(11)],
        },
        mine.name: {"found.log_gamma": [0.15] * 11},
    }
    (table,) = worst_found(evidence([plain, drawn, after, mine], values))
    assert table.rows == (
        ("gamma_worst@2", "log_gamma", "0.100", "-0.300 to 0.300", "11", "11", "Physics", "48"),
        ("gamma_worst@1", "log_gamma", "0.150", "0.150 to 0.150", "11", "11", "RandomDraws", "32"),
        ("joint_worst+pgd[linf<=0.01]@1", "first_log_gamma", "0.000", "0.000 to 0.050", "11", "11",
         "Physics", "96"),
        ("joint_worst+pgd[linf<=0.01]@1", "second_power_0_1", "5.000", "0.000 to 10.000", "11",
         "11", "Physics", "96"),
        ("own_worst@1", "log_gamma", "0.150", "0.150 to 0.150", "11", "11", "own", DASH),
    )  # fmt: skip
    assert not table.tones


def test_cases_of_few_patients_show_no_value():
    probe = searched("gamma", Physics(48), GAMMA, 2.0, {})
    values = {probe.name: {"found.log_gamma": [0.1] * 18}}
    patients = [f"p{i // 2}" for i in range(18)]
    (table,) = worst_found(evidence([probe], values, patients))
    assert table.rows[0][2:6] == (DASH, DASH, "<10", DASH)


def test_a_run_without_a_search_has_no_table_and_its_section_stays():
    probe = searched("gamma", Physics(48), GAMMA, 2.0, {})
    assert worst_found(evidence([probe], {probe.name: {"correct": [1.0] * 12}})) == ()
    found = evidence([probe], {probe.name: {"found.log_gamma": [0.1] * 12}})
    assert shifts(found).tables == worst_found(found)
    assert "not scores" in shifts(found).paragraphs[-1]

import runpy
from pathlib import Path

import numpy as np
import pytest

from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.statistics.slices import Slice
from robustbench_med.statistics.study import distinct_tests, findings_of, in_group, open_study

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables = FIXTURE["tables"]
RNG = np.random.default_rng(0)
WHO = RNG.permutation(np.repeat(np.arange(30), 2))
SEX = np.array(["F", "M"], dtype=object)[WHO % 2]
SITE = np.array(["A", "B", "C"], dtype=object)[WHO % 3]
METRICS = {"correct": {}, "error": {"better": "zero", "tolerance": 4.0}}


def run_of(subgroups=(("sex",), ("site",)), **more):
    flags, errors = RNG.integers(0, 2, (2, 60)), RNG.normal(0, 3, (3, 60))
    values = {
        "correct": {"clean": flags[0], "pgd[b]": flags[1]},
        "error": {"clean": errors[0], "pgd[b]": errors[1], "gamma@2": errors[2]},
    }
    return tables(
        values, METRICS, who=WHO, attributes={"sex": SEX, "site": SITE}, subgroups=subgroups, **more
    )


def test_columns_run_over_the_readings_and_their_probes():
    study = open_study(*run_of())
    attacked = ["clean", "pgd[b]", "worst[b]"]
    shifted = ["clean", "pgd[b]", "gamma@2", "worst[b]"]
    names = [(reading.metric, probe.name) for reading, probe in study.columns]
    assert names == [
        *(("correct", probe) for probe in attacked),
        *((f"error{made}", probe) for made in ("", ".failure", ".loa_low", ".loa_high")
          for probe in shifted),
    ]  # fmt: skip
    assert study.probes == ["clean", "pgd[b]", "gamma@2"]


def test_patients_are_positions_side_by_side_and_drawn_once_for_all():
    study = open_study(*run_of())
    assert study.patients == 30
    assert study.drawn.patient_ids.tolist() == np.repeat(np.arange(30), 2).tolist()
    assert study.cases["patient_id"].tolist() == [f"p{k // 2:05d}" for k in range(60)]
    assert study.drawn.table.shape == (2000, 30)
    assert (study.drawn.table.sum(axis=1) == 30).all()


def test_draws_depend_on_the_seed_and_the_number_of_patients_only():
    run = run_of()
    study = open_study(*run)
    shuffled = open_study(run[0].sample(frac=1, random_state=1), run[1].iloc[::-1], *run[2:])
    np.testing.assert_array_equal(study.drawn.table, shuffled.drawn.table)
    np.testing.assert_array_equal(study.drawn.patient_ids, shuffled.drawn.patient_ids)
    other = open_study(*run_of(seed=8))
    assert (study.drawn.table != other.drawn.table).any()


def test_only_cases_that_were_asked_belong():
    put = WHO < 20
    names = ("clean", "pgd[b]", "gamma@2")
    study = open_study(*run_of(asked=dict.fromkeys(names, put)))
    assert study.patients == 20
    assert len(study.cases) == 40


def test_groups_come_after_everyone_in_the_order_of_the_subgroups():
    study = open_study(*run_of())
    found = findings_of(study, [["site"], ["sex"], ["sex", "site"]])
    names = [each.group.group for each in found]
    assert names == ["all", "A", "B", "C", "F", "M",
                     *(f"{sex} \u00d7 {site}" for sex in "FM" for site in "ABC")]  # fmt: skip
    for each in found:
        np.testing.assert_array_equal(each.chosen, each.group.mask(study.cases))
    women = in_group(study, Slice(("sex",), ("F",)))
    assert women.estimates == found[4].estimates


def test_a_group_and_its_rest_are_one_test():
    study = open_study(*run_of())
    found = findings_of(study, [["sex"], ["site"], ["sex"]])
    #                                    all F  M  A  B  C  F  M
    assert distinct_tests(found).tolist() == [0, 1, 1, 3, 4, 5, 1, 1]


def test_nothing_asked_is_nothing_found():
    run = run_of()
    study = open_study(run[0].iloc[:0], *run[1:])
    assert study.patients == 0
    assert findings_of(study, [["sex"]]) == []


def test_tables_that_do_not_belong_together_are_refused():
    run = run_of()
    with pytest.raises(InputError, match="is not in the cases table"):
        open_study(run[0], run[1].iloc[1:], *run[2:])
    with pytest.raises(IntegrityError, match="two values of 'correct'"):
        open_study(run[0].iloc[[0, 0]], *run[1:])
    with pytest.raises(InputError, match=r"no attribute 'sexe'.*'sex'"):
        findings_of(open_study(*run), [["sexe"]])

"""A plan that asks for the worst of a shift: what is found is known from the model's mean."""

import pandas as pd
import pytest

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.worst_found import worst_found

SHIFT = 'use = "gamma"\nseverities = [1]'
SEARCHED = SHIFT + '\n\n[[shift]]\nuse = "gamma"\nseverities = [0, 1]\nsearch = { SEARCH }'

THEN = 'use = "physics", budget = 16, then ='
BALL = 'ball = { norm = "linf", eps = 0.004 }'


def with_search(study, text):
    study.edit(SHIFT, SEARCHED.replace("SEARCH", text))


def test_the_worst_gamma_darkens_bright_cases_and_brightens_dark_ones(study):
    with_search(study, 'use = "physics", budget = 16')
    study.run()
    run = study.opened()
    found = run.records.pivot_table(index="case_id", columns=["probe", "metric"], values="value")
    bright = pd.Series({i: int(i.removeprefix("case")) % 2 for i in found.index})
    worst = found["gamma_worst@1"]
    expected = 0.15 * (2 * bright - 1)
    assert worst["found.log_gamma"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)
    assert (worst["correct"] <= found["gamma@1"]["correct"]).all()
    assert (found["gamma_worst@0"]["correct"] == found["clean"]["correct"]).all()
    shown = run.estimates.query("probe == 'gamma_worst@1'")["metric"]
    assert "correct" in {*shown}
    assert not shown.str.startswith("found").any()  # a parameter is no score
    (table,) = worst_found(Evidence.of(run))
    probe, parameter, *_, search, budget = table.rows[-1]
    assert (probe, parameter) == ("gamma_worst@1", "log_gamma")
    assert (search, budget) == ("Physics", "16")


def test_an_attack_may_follow_the_search_in_the_same_probe(study):
    with_search(study, f'{THEN} {{ use = "pgd", steps = 3, {BALL} }}')
    study.run()
    run = study.opened()
    found = run.records.pivot_table(index="case_id", columns=["probe", "metric"], values="value")
    both = found["gamma_worst+pgd[linf<=0.004]@1"]
    assert both["found.log_gamma"].abs().to_numpy() == pytest.approx(0.15, abs=1e-6)
    assert (both["correct"] <= found["gamma@1"]["correct"]).all()
    entry = next(p for p in run.manifest["probes"] if "+pgd" in p["name"] and p["level"] == 1)
    assert (entry["kind"], entry["ball"]) == ("shift", None)  # no worst case of a ball takes it in
    assert entry["settings"]["then"]["ball"]["eps"] == 0.004
    assert not run.estimates["probe"].str.startswith("worst[linf<=0.004").any()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('use = "fysics"', "shift 2: search: searches: no 'fysics'; did you mean 'physics'?"),
        ('use = "physics", budget = 2', "shift 2: search: physics: budget must be a whole number"),
        ('use = "physics", bugdet = 9', "physics has no setting 'bugdet'; did you mean 'budget'?"),
        ("budget = 9", "shift 2: search: use is missing"),
        (f'{THEN} {{ use = "pgdd", {BALL} }}', "shift 2: search: then: attacks: no 'pgdd'"),
        (f'{THEN} {{ use = "pgd" }}', "shift 2: search: then: [ball] is missing"),
        (f'{THEN} {{ use = "pgd", {BALL}, cases = 3 }}', "then: cases: the attack is put to"),
        (
            THEN + ' { use = "pgd", ball = { norm = "linf", eps = 0.1, bounds = [0, 9] } }',
            "then: ball: bounds: are the model's here; leave them out",
        ),
        (
            THEN + ' { use = "pgd", ball = { norm = "linf", eps = 2.0 } }',
            "gamma: search: then: ball: eps = 2 is more than the whole range of intensities",
        ),
    ],
)
def test_a_search_that_is_wrong_is_one_line(study, text, line):
    with_search(study, text)
    assert line in str(study.refused_run())


def test_a_shift_that_cannot_be_searched_is_one_line(study):
    study.edit(SHIFT, 'use = "rician"\nseverities = [1]\nsearch = { use = "random_draws" }')
    assert "'rician': has no parameters to search" in str(study.refused_run())

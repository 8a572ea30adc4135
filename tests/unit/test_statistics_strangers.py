import runpy
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from robustbench_med.statistics import strangers
from robustbench_med.statistics.slices import Slice
from robustbench_med.statistics.strangers import bounds_of, might_belong
from robustbench_med.statistics.study import findings_of, in_group, open_study
from robustbench_med.statistics.table import estimates_of

FIXTURE = runpy.run_path(str(Path(__file__).with_name("statistics_fixture.py")))
tables, row = FIXTURE["tables"], FIXTURE["row"]
RNG = np.random.default_rng(0)
WHO = np.repeat(np.arange(27), [1, 2, 1] * 9)
SEX = np.array(["F"] * 10 + ["M"] * 10 + [None] * 7, dtype=object)[WHO]
SITE = np.array(["A", "B", None], dtype=object)[WHO % 3]
METRICS = {
    "correct": {},
    "psnr": {"tolerance": 30.0},
    "error": {"better": "zero", "patient": "sum"},
    "finding": {"reads": "detection", "threshold": 0.5},
}


def a_study(subgroups=(("sex",),)):
    rng = np.random.default_rng(1)
    count = len(WHO)
    values = {
        "correct": {name: rng.integers(0, 2, count) for name in ("clean", "gamma@2")},
        "psnr": {name: rng.normal(30, 2, count) for name in ("clean", "gamma@2")},
        "error": {name: rng.normal(0, 2, count) for name in ("clean", "gamma@2")},
        "finding": {name: rng.beta(3, 2, count) for name in ("clean", "gamma@2")},
        "finding.true": dict.fromkeys(("clean", "gamma@2"), rng.integers(0, 2, count)),
    }
    attributes = {"sex": SEX, "site": SITE}
    return open_study(*tables(values, METRICS, who=WHO, attributes=attributes, subgroups=subgroups))


def by_enumeration(study, group):
    """Values of the group with every set of the patients who might belong to it."""
    unknown = might_belong(study, group)
    ids = study.drawn.patient_ids
    unknowns = np.unique(ids[unknown])
    own = group.mask(study.cases)
    found = []
    for taken in product([False, True], repeat=len(unknowns)):
        chosen = own | (unknown & np.isin(ids, unknowns[np.array(taken)]))
        found.append([v for r in study.readings for v in r.of(ids, chosen).values])
    return np.min(found, axis=0), np.max(found, axis=0)


@pytest.fixture
def of_any_number(monkeypatch):
    """So few unknown patients that their subsets can be enumerated."""
    monkeypatch.setattr(strangers, "SHOWN_FROM", 1)


def test_bounds_tell_nothing_of_fewer_than_ten_unknown_patients():
    study = a_study()
    assert np.isnan(bounds_of(study, in_group(study, Slice(("sex",), ("F",))))).all()


@pytest.mark.usefixtures("of_any_number")
@pytest.mark.parametrize("group", ["F", "M"])
def test_bounds_are_reached_by_some_set_of_the_unknown_and_passed_by_none(group):
    study = a_study()
    chosen = Slice(("sex",), (group,))
    low, high = by_enumeration(study, chosen)
    found = bounds_of(study, in_group(study, chosen))
    ratios = np.array([reading.by_patient for reading, _ in study.columns])
    assert ratios.sum() == 2 * (1 + 2 + 1 + 1 + 4)
    np.testing.assert_allclose(found[0, ratios], low[ratios], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1, ratios], high[ratios], rtol=1e-12, atol=1e-12)
    assert np.isnan(found[:, ~ratios]).all()
    assert (found[0, ratios] < found[1, ratios]).all()


@pytest.mark.usefixtures("of_any_number")
def test_bounds_hold_what_would_have_been_found_had_all_been_recorded():
    study = a_study()
    bounds = bounds_of(study, in_group(study, Slice(("sex",), ("F",))))
    ids = study.drawn.patient_ids
    own, unknown = (
        Slice(("sex",), ("F",)).mask(study.cases),
        might_belong(study, Slice(("sex",), ("F",))),
    )
    for _ in range(50):
        truly = own | (unknown & np.isin(ids, RNG.permutation(27)[:13]))
        values = np.concatenate([r.of(ids, truly).values for r in study.readings if r.by_patient])
        kept = np.array([reading.by_patient for reading, _ in study.columns])
        assert (values >= bounds[0, kept] - 1e-12).all()
        assert (values <= bounds[1, kept] + 1e-12).all()


def test_who_might_belong_is_not_kept_out_by_any_recorded_attribute():
    study = a_study()
    sex, site = (study.cases[name].fillna("?") for name in ("sex", "site"))
    both = might_belong(study, Slice(("sex", "site"), ("F", "A")))
    expected = sex.isin(["F", "?"]) & site.isin(["A", "?"]) & ~((sex == "F") & (site == "A"))
    np.testing.assert_array_equal(both, expected)
    assert both.any()
    np.testing.assert_array_equal(might_belong(study, Slice(("sex",), ("F",))), sex == "?")


def test_the_unknown_themselves_and_everyone_have_no_bounds():
    study = a_study()
    for group in (Slice(), Slice(("sex",), ("not recorded",)),
                  Slice(("sex", "site"), ("F", "not recorded"))):  # fmt: skip
        assert not might_belong(study, group).any()
        assert np.isnan(bounds_of(study, in_group(study, group))).all()


def test_without_unknown_patients_there_are_no_bounds():
    values = {"psnr": {"clean": RNG.normal(size=40)}}
    sexes = np.repeat(["F", "M"], 20).astype(object)
    study = open_study(*tables(values, attributes={"sex": sexes}))
    assert np.isnan(bounds_of(study, in_group(study, Slice(("sex",), ("F",))))).all()


def test_the_table_shows_unknown_patients_as_a_stratum_and_bounds_for_the_others():
    values = RNG.normal(30, 2, 60)
    sexes = np.repeat(np.array(["F", "M", None], dtype=object), [25, 25, 10])
    study = open_study(*tables({"psnr": {"clean": values}}, attributes={"sex": sexes}))
    table = estimates_of(study, findings_of(study, [["sex"]]))
    assert table["group"].tolist() == ["all", "F", "M", "not recorded"]
    unknown = row(table, group="not recorded")
    assert unknown["value"] == pytest.approx(values[50:].mean())
    assert unknown["patients"] == 10
    women = row(table, group="F")
    falling = np.concatenate([[0], np.sort(values[50:])[::-1]])
    best = ((values[:25].sum() + np.cumsum(falling)) / np.arange(25, 36)).max()
    assert women["bound_high"] == pytest.approx(best)
    assert women["bound_low"] < women["value"] < women["bound_high"]
    assert table.loc[[0, 3], ["bound_low", "bound_high"]].isna().all(axis=None)

"""Who was tested is told without telling anybody's own numbers."""

from types import SimpleNamespace

import pandas as pd

from robustbench_med.reports import tested as who


def values(cases):
    manifest = {
        "cohort": {"cases": len(cases), "patients": cases["patient_id"].nunique(), "name": "c"},
        "task": {"kind": "classification", "classes": ["a", "b"]},
        "bounds": [0, 1], "model": {"name": "m"}, "digests": {}, "probes": [],
    }  # fmt: skip
    section = who.tested(SimpleNamespace(manifest=manifest, cases=cases))
    return [row[:3] for row in section.tables[1].rows]


def cases(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"patient_id": [f"p{i}" for i in range(count)], **columns})


def test_numbers_of_few_patients_are_never_listed():
    weights = [61.5 + i for i in range(12)]
    found = values(cases(weight_kg=weights))
    assert len(found) == 1
    assert found[0][1].startswith("median 67")
    assert values(cases(weight_kg=weights[:9])) == [
        ("weight_kg", "a number, of fewer than 10 patients", "<10")
    ]


def test_numbers_that_many_patients_share_are_listed():
    found = values(cases(grade=[1] * 20 + [2] * 11))
    assert found == [("grade", "1", "20"), ("grade", "2", "11")]
    mixed = values(cases(grade=[1] * 20 + [2] * 3))
    assert len(mixed) == 1
    assert mixed[0][1].startswith("median")


def test_missing_values_are_told_where_there_are_any():
    known = values(cases(sex=["F"] * 12 + ["M"] * 13))
    assert [row[1] for row in known] == ["M", "F"]
    some = values(cases(sex=["F"] * 12 + ["M"] * 13 + [None] * 10))
    assert some[-1] == ("sex", "not recorded", "10")

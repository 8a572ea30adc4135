import numpy as np
import pandas as pd
import pytest

from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.statistics.reading import asked_cases, read_scores
from robustbench_med.statistics.scores import Meaning

CASES = pd.DataFrame(
    {"case_id": ["c3", "c1", "c2", "c4"], "patient_id": ["q", "p", "p", "r"], "split": "test"}
)
MANIFEST = {
    "seed": 1,
    "metrics": {
        "dice": {"better": "higher", "patient": "dice", "unit": ""},
        "error": {"better": "zero", "patient": "sum", "unit": "ml"},
    },
    "probes": [
        {"name": "clean", "kind": "clean", "level": 0.0, "ball": None},
        {"name": "pgd[b]", "kind": "attack", "level": 0.1, "component": "pgd", "ball": "b"},
        {"name": "crown[b]", "kind": "certificate", "level": 0.1, "ball": "b"},
    ],
    "subgroups": [],
}
KINDS = {"clean": ("clean", 0.0), "pgd[b]": ("attack", 0.1), "crown[b]": ("certificate", 0.1)}


def records(*rows):
    full = [(case, probe, *KINDS[probe], metric, value) for case, probe, metric, value in rows]
    columns = ["case_id", "probe", "kind", "level", "metric", "value"]
    return pd.DataFrame(full, columns=columns)


def failures(*rows):
    full = [
        (case, probe, KINDS.get(probe, ("attack", 0))[0], "CaseError", "no") for case, probe in rows
    ]
    return pd.DataFrame(full, columns=["case_id", "probe", "kind", "error", "message"])


def read(table, failed=None, manifest=MANIFEST):
    failed = failures() if failed is None else failed
    found = read_scores(table, asked_cases(table, CASES, failed), failed, manifest)
    return {scores.metric: scores for scores in found}


DICE = [("c1", "clean", f"dice{part}", value) for part, value in
        [("", 0.5), (".shared", 1), (".predicted", 2), (".true", 2)]]  # fmt: skip


def test_only_cases_that_were_asked_are_kept_in_order_of_patient_and_case():
    table = records(("c3", "clean", "error", 1.0), ("c2", "clean", "error", 1.0))
    kept = asked_cases(table, CASES, failures(("c1", "pgd[b]")))
    assert kept["case_id"].tolist() == ["c1", "c2", "c3"]


def test_values_stand_by_case_and_probe():
    table = records(
        ("c3", "clean", "error", 3.0), ("c1", "pgd[b]", "error", 1.5), ("c1", "clean", "error", 1.0)
    )  # fmt: skip
    found = read(table)["error"]
    np.testing.assert_array_equal(found.values, [[1.0, 1.5], [3.0, np.nan]])
    assert found.asked.tolist() == [[True, True], [True, False]]
    assert [probe.name for probe in found.probes] == ["clean", "pgd[b]"]
    assert (found.meaning.better, found.meaning.patient) == ("zero", "sum")


def test_failed_cases_count_as_asked_though_they_have_no_record():
    table = records(("c1", "clean", "error", 1.0), ("c2", "clean", "error", np.nan))
    found = read(table, failures(("c3", "clean")))["error"]
    assert found.asked[:, 0].tolist() == [True, True, True]
    assert found.failed[:, 0].tolist() == [False, False, True]


def test_a_case_with_a_value_did_not_fail_whatever_is_told_of_it():
    table = records(("c1", "pgd[b]", "error", 1.0), ("c2", "pgd[b]", "error", np.nan))
    found = read(table, failures(("c1", "pgd[b]"), ("c2", "pgd[b]")))["error"]
    place = [probe.name for probe in found.probes].index("pgd[b]")
    assert found.asked[:, place].tolist() == [True, True]
    assert found.failed[:, place].tolist() == [False, True]


def test_a_probe_that_failed_on_every_case_keeps_its_metrics():
    found = read(records(*DICE), failures(("c1", "pgd[b]"), ("c1", "crown[b]")))
    assert {name: [p.name for p in s.probes] for name, s in found.items()} == {
        "dice": ["clean", "pgd[b]"],
        "error": ["pgd[b]"],
        "certified": ["crown[b]"],
    }


def test_companions_serve_their_metric_and_are_no_metrics_themselves():
    found = read(records(*DICE))
    assert "dice.shared" not in found
    assert found["dice"].parts[:, 0, 0].tolist() == [1, 2, 2]


def test_dice_without_companions_falls_back_to_the_mean():
    found = read(records(DICE[0]))["dice"]
    assert (found.meaning.patient, found.parts) == ("mean", None)


def test_certificates_bring_metrics_that_the_manifest_need_not_know():
    names = ["margin_bound", "undecided", "certified", "falsified", "slack", "certified.extra"]
    found = read(records(*[("c1", "crown[b]", name, 1.0) for name in names]))
    better = {
        name: scores.meaning.better
        for name, scores in found.items()
        if name not in MANIFEST["metrics"]
    }
    assert better == {
        "certified": "higher", "falsified": "lower", "undecided": "lower",
        "margin_bound": "higher", "slack": "higher",
    }  # fmt: skip
    assert found["certified"].meaning == Meaning("higher")


def declared(**settings):
    metric = {"better": "higher", "patient": "mean", "unit": "", **settings}
    return {**MANIFEST, "metrics": {"finding": metric}}


def test_what_the_plan_declares_becomes_the_meaning():
    one = records(("c1", "clean", "finding", 0.7))
    plain = read(one, manifest=declared())["finding"]
    assert plain.meaning == Meaning("higher", "mean", None, None, "", None)
    assert (plain.truth, plain.penalised) == (None, None)
    told = declared(limits=[0, 1], tolerance=0.5, reads="detection", threshold=0.25)
    found = read(one, manifest=told)["finding"]
    assert found.meaning == Meaning("higher", "mean", (0.0, 1.0), 0.5, "detection", 0.25)


def test_the_truth_of_a_case_is_what_any_probe_says_of_it():
    rows = [("c1", "clean", "finding", 0.7), ("c1", "pgd[b]", "finding", 0.2),
            ("c3", "pgd[b]", "finding", 0.4), ("c2", "clean", "finding", 0.4),
            ("c1", "clean", "finding.true", 1.0), ("c1", "pgd[b]", "finding.true", 1.0),
            ("c3", "pgd[b]", "finding.true", 0.0)]  # fmt: skip
    found = read(records(*rows), manifest=declared(reads="detection"))
    assert "finding.true" not in found
    np.testing.assert_array_equal(found["finding"].truth, [1.0, np.nan, 0.0])


def test_penalised_values_are_marked_by_case_and_probe():
    rows = [("c1", "clean", "finding", 9.0), ("c1", "clean", "finding.penalised", 1.0),
            ("c1", "pgd[b]", "finding", 2.0), ("c1", "pgd[b]", "finding.penalised", 0.0),
            ("c3", "clean", "finding", 1.0)]  # fmt: skip
    found = read(records(*rows), manifest=declared())["finding"]
    assert found.penalised.tolist() == [[True, False], [False, False]]


TEXTS = ["case_id", "probe", "kind", "metric"]


def test_categoricals_in_the_text_columns_are_read_as_strings():
    rows = [*DICE, ("c3", "clean", "error", 3.0), ("c2", "pgd[b]", "error", 1.5),
            ("c1", "crown[b]", "certified", 1.0)]  # fmt: skip
    failed = failures(("c3", "pgd[b]"))
    plain = read(records(*rows), failed)
    coded = read(
        records(*rows).astype(dict.fromkeys(TEXTS, "category")),
        failed.astype({"case_id": "category", "probe": "category"}),
    )
    assert list(plain) == list(coded)
    for name, one in plain.items():
        other = coded[name]
        assert (one.metric, one.meaning, one.probes) == (other.metric, other.meaning, other.probes)
        for part in ("values", "asked", "failed"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_tables_that_do_not_belong_together_are_refused():
    one = records(("c1", "clean", "error", 1.0))
    with pytest.raises(InputError, match="case 'c9' is not in the cases table"):
        read(one.assign(case_id="c9"))
    with pytest.raises(InputError, match=r"probe 'cleen' is not in the manifest; did you mean 'c"):
        read(one.assign(probe="cleen"))
    with pytest.raises(InputError, match="'c1' again"):
        asked_cases(one, pd.concat([CASES, CASES]).query("case_id == 'c1'"), failures())
    with pytest.raises(IntegrityError, match="two values of 'error'"):
        read(pd.concat([one, one]))

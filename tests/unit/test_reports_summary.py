"""The short reports: Markdown for people, JUnit for machines; both inert and never misleading."""

import dataclasses
import json
import re
import runpy
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from robustbench_med.errors import IncompleteError
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.junit import render_junit
from robustbench_med.reports.operating_tables import detections
from robustbench_med.reports.sandwich import sandwiches
from robustbench_med.reports.subgroups import found_groups
from robustbench_med.reports.summary import render_summary
from robustbench_med.reports.verdict import verdict
from robustbench_med.runfolder import Run

FIXTURE = runpy.run_path(str(Path(__file__).with_name("reports_fixture.py")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return FIXTURE["shared_run"](tmp_path_factory.getbasetemp() / "reports-cine")


@pytest.fixture(scope="module")
def evidence(run):
    return Evidence.of(run)


def changed(run, folder, **manifest):
    """The run with another manifest."""
    shutil.copytree(run.folder, folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | manifest), encoding="utf-8")
    return Run.open(folder)


def junit(evidence):
    """The parsed suite."""
    return ET.fromstring(render_junit(evidence.judgements, evidence).encode())  # noqa: S314


def test_the_summary_leads_with_the_verdict_and_shows_rules_results_groups_and_failures(evidence):
    text = render_summary(evidence)
    assert text.startswith("# UNDECIDED")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [
        "Rules", "Clean, worst case and certified", "Groups that stand out", "Failures",
    ]  # fmt: skip
    assert "nan" not in text.lower()


def test_hostile_text_means_nothing_to_markdown(evidence):
    text = render_summary(evidence)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert r"a\|b \`c\` \[d\](http\://e)" in text
    assert "<" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert widths == {5, 6, 7, 8}


def test_the_summary_stays_short_however_many_rules_there_are(evidence):
    wide = dataclasses.replace(evidence.judgements[0].rule, id="東" * 40)
    one = dataclasses.replace(evidence.judgements[0], rule=wide, group="京" * 60, reason="語" * 300)
    many = dataclasses.replace(evidence, judgements=(one,) * 5000)
    text = render_summary(many)
    assert len(text.encode()) < 60_000
    assert "4940 more rows" in text


def test_a_summary_that_would_be_too_long_says_where_it_was_cut(evidence):
    rows = evidence.estimates
    wide = rows.assign(probe=["<" * 60] * len(rows), method=["<" * 60] * len(rows))
    one = dataclasses.replace(evidence.judgements[0], reason="<" * 300, observed="<" * 120)
    long = dataclasses.replace(evidence, estimates=wide, judgements=(one,) * 100)
    text = render_summary(long)
    assert len(text.encode()) < 60_000
    assert "Cut here" in text


def test_the_summary_names_every_group_that_stands_out_and_none_that_does_not(evidence):
    text = render_summary(evidence).split("## Groups that stand out")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if "---" not in row[0]]
    assert rows
    for row in rows:
        assert row[0].strip("| ") in ("worse", "differs")
        p = row[-1].strip(" |")
        assert p == "p &lt; 0.001" or 0.001 <= float(p.removeprefix("p = ")) < 0.05
    assert "have too few patients to tell" in text


def test_junit_has_one_case_per_rule_and_group_with_matching_counts(evidence):
    suite = junit(evidence).find("testsuite")
    cases = suite.findall("testcase")
    assert len(cases) == len(evidence.judgements) == int(suite.get("tests"))
    outcomes = [judgement.outcome for judgement in evidence.judgements]
    for tag, outcome in (("failure", "fail"), ("skipped", "undecided")):
        assert sum(case.find(tag) is not None for case in cases) == outcomes.count(outcome)
    for case, judgement in zip(cases, evidence.judgements, strict=True):
        told = judgement.outcome == "waived" or (judgement.outcome == "pass" and judgement.power)
        assert (case.find("system-out") is not None) == bool(told)
    assert suite.get("failures") == str(outcomes.count("fail"))
    assert suite.get("skipped") == str(outcomes.count("undecided"))
    assert len({(c.get("classname"), c.get("name")) for c in cases}) == len(cases)


def test_a_waived_failure_passes_with_a_note_that_names_reason_and_approver(evidence):
    note = junit(evidence).find(".//system-out").text
    assert "fail, waived by Dr. O'Neil & co until 2027-03-01" in note
    assert "research <b>use</b> only" in note


def test_the_same_failure_without_a_waiver_is_a_failure(run, tmp_path):
    policy = run.manifest["policy"].replace("2027-03-01", "2026-10-31")
    evidence = Evidence.of(changed(run, tmp_path / "expired", policy=policy))
    assert evidence.verdict == "fail"
    assert "breaks the floor 0.9" in junit(evidence).find(".//failure").get("message")
    assert render_summary(evidence).startswith("# FAIL")


def test_a_warning_is_skipped_and_does_not_decide(run, tmp_path):
    policy = (
        '[[rule]]\nid = "w"\nprobe = "clean"\nmetric = "dice"\nfloor = 0.99\nseverity = "warn"\n'
    )
    evidence = Evidence.of(changed(run, tmp_path / "warns", policy=policy))
    assert evidence.verdict == "pass"
    assert junit(evidence).find(".//skipped").get("message").startswith("warning: ")


def test_without_a_policy_nothing_is_judged_and_junit_is_empty(run, tmp_path):
    evidence = Evidence.of(changed(run, tmp_path / "none", policy=None))
    assert evidence.verdict is None
    assert render_summary(evidence).startswith("# NOT JUDGED")
    assert junit(evidence).find("testsuite").get("tests") == "0"


def test_a_policy_that_does_not_fit_the_run_never_looks_like_success(run, tmp_path):
    policy = '[[rule]]\nid = "r"\nprobe = "pdg[linf<=0.004]"\nmetric = "dice"\nfloor = 0.1\n'
    evidence = Evidence.of(changed(run, tmp_path / "misfit", policy=policy))
    assert evidence.verdict is None
    assert "did you mean 'pgd[linf<=0.004]'?" in evidence.unjudged
    assert junit(evidence).find("testsuite").get("errors") == "1"


def test_an_interrupted_run_has_no_report(run, tmp_path):
    with pytest.raises(IncompleteError, match="interrupted"):
        Evidence.of(changed(run, tmp_path / "cut", state="interrupted"))


def test_a_certificate_is_compared_on_its_own_cases_only(run, evidence):
    found = sandwiches(evidence)[0]
    records = run.records
    proof = records[(records["probe"] == found.probe) & (records["metric"] == "certified")]
    same = set(proof["case_id"])
    attacks = records[
        records["probe"].isin(["clean", "pgd[linf<=0.002]", "fgsm[linf<=0.002]"])
        & (records["metric"] == "correct")
        & records["case_id"].isin(same)
    ]
    tried = set(attacks.loc[attacks["kind"] == "attack", "case_id"])
    worst = attacks[attacks["case_id"].isin(tried)].groupby("case_id")["value"].min()
    assert found.cases == len(worst) < len(run.cases)
    assert found.attacked.value == pytest.approx(worst.mean())
    kept = proof[proof["case_id"].isin(tried)]
    assert found.certified.value == pytest.approx(kept["value"].mean())
    assert found.certified.value <= found.attacked.value <= found.clean.value
    assert (found.broken, found.unanswered) == (0, found.asked - len(same))
    assert all(row.cases == found.cases for _, row in found.named())


def test_an_answer_that_contradicts_a_proof_is_counted(evidence):
    records = evidence.records.copy()
    proved = records[(records["metric"] == "certified") & (records["value"] == 1)].iloc[0]
    ball = proved["probe"].removeprefix("crown")
    hit = (
        (records["case_id"] == proved["case_id"])
        & (records["metric"] == "correct")
        & (records["probe"] == f"pgd{ball}")
    )
    assert hit.sum() == 1
    records.loc[hit, "value"] = 0.0
    broken = dataclasses.replace(evidence, records=records)
    found = {s.probe: s.broken for s in sandwiches(broken)}
    assert found[proved["probe"]] == 1


def test_a_leak_stands_above_the_rules(evidence):
    leaks = {"cases": 3, "counts": {k: {"cases": 1} for k in ("patient", "identical", "near")},
             "near": {"reason": ""}}  # fmt: skip
    known = {"leaks": leaks, "test": {"cases": 90}, "train": {"cases": 9, "patients": 9}}
    told = dataclasses.replace(evidence, manifest={**evidence.manifest, "split": known})
    text = render_summary(told)
    assert text.index("LEAK: 3 of 90 test cases") < text.index("## Rules")
    assert any(p.startswith("LEAK: 3 of 90") for p in verdict(told).paragraphs)
    assert "LEAK" not in render_summary(evidence)


def test_rates_at_the_threshold_are_counted_with_the_groups(evidence):
    names = {(view.metric, view.probe) for view in found_groups(evidence)}
    detection = detections(evidence)
    assert detection
    for metric in detection:
        for figure in ("sensitivity", "specificity", "auc"):
            probes = {probe for name, probe in names if name == f"{metric}.{figure}"}
            assert "clean" in probes
            assert len(probes) == 3

"""Judgements as JUnit XML, one test case per rule and group."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.gate import Judgement
from robustbench_med.reports.verdict import limit, why
from robustbench_med.reports.wording import label


def render_junit(judgements: Sequence[Judgement], evidence: Evidence) -> str:
    """Render a `testsuites` document.

    A failed rule is a failure, an undecided one is skipped with its reason, a waived one passes
    with a note, as does a margin that is kept, and one that only warns is skipped. A policy that
    could not be judged is an error, so that it never looks like success.
    """
    name = label(evidence.manifest["name"])
    tests = [_test(judgement) for judgement in judgements]
    if not tests and evidence.manifest.get("policy"):
        tests = [_error(evidence.unjudged)]
    counts = {
        "tests": str(len(tests)),
        "failures": _count(tests, "failure"),
        "errors": _count(tests, "error"),
        "skipped": _count(tests, "skipped"),
        "time": "0",
    }
    root = ET.Element("testsuites", {"name": "robustbench-med gate", **counts})
    stamp = str(evidence.manifest["finished"] or "").removesuffix("Z")
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts, "timestamp": stamp})
    suite.extend(tests)
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _test(judgement: Judgement) -> ET.Element:
    test = _case(label(judgement.rule.id), label(judgement.group))
    said = f"{judgement.observed}; {limit(judgement)}; {why(judgement)}"
    if judgement.outcome == "fail":
        ET.SubElement(test, "failure", {"message": said, "type": judgement.rule.bound}).text = said
    elif judgement.outcome == "undecided":
        ET.SubElement(test, "skipped", {"message": f"undecided: {said}"})
    elif judgement.outcome == "warning":
        ET.SubElement(test, "skipped", {"message": f"warning: {said}"})
    elif judgement.waiver is not None and judgement.outcome == "waived":
        ET.SubElement(test, "system-out").text = f"{said}: {label(judgement.waiver.reason, 300)}"
    elif judgement.power:
        ET.SubElement(test, "system-out").text = said
    return test


def _error(why: str) -> ET.Element:
    test = _case("policy", "not judged")
    ET.SubElement(test, "error", {"message": label(why, 600), "type": "policy"})
    return test


def _case(rule: str, group: str) -> ET.Element:
    return ET.Element("testcase", {"classname": f"gate.{rule}", "name": group, "time": "0"})


def _count(tests: Sequence[ET.Element], kind: str) -> str:
    return str(sum(test.find(kind) is not None for test in tests))

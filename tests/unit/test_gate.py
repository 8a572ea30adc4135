"""The gate passes and fails by whole intervals, and says why it does neither."""

import itertools
import math
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd
import pytest

from robustbench_med.errors import IncompleteError, InputError
from robustbench_med.reports.gate import Judgement, judge, overall_verdict
from robustbench_med.reports.policy import Policy, Rule, Waiver, parse_policy
from robustbench_med.reports.terminal import columns, gate_table

TODAY = date(2026, 11, 1)
ROW = {
    "probe": "clean", "kind": "clean", "level": 0.0, "metric": "dice", "better": "higher",
    "subgroup": "", "group": "all", "value": 0.85, "low": 0.8, "high": 0.9, "method": "Wilson",
    "patients": 200, "cases": 210, "undefined": 0, "failed": 0, "status": "ok",
    "validity": "",
    "rest_value": math.nan, "rest_patients": math.nan, "difference": math.nan,
    "difference_low": math.nan, "difference_high": math.nan, "difference_method": "",
}  # fmt: skip


def row(**changes):
    return ROW | changes


def group(name, low, high, **changes):
    """A group whose difference from the rest lies between `low` and `high`."""
    found = {
        "subgroup": "sex", "group": name, "rest_value": 0.8, "rest_patients": 100,
        "difference": (low + high) / 2, "difference_low": low, "difference_high": high,
        "difference_method": "Newcombe",
    }  # fmt: skip
    return row(**found | changes)


@dataclass
class Findings:
    """What is judged, made by hand."""

    rows: list
    lost: list = field(default_factory=list)
    state: str = "complete"

    @property
    def estimates(self):
        return pd.DataFrame(self.rows)

    @property
    def failures(self):
        frame = pd.DataFrame(self.lost, columns=["case_id", "probe", "error"])
        return frame.assign(kind="attack", message="")

    @property
    def manifest(self):
        ball = "linf<=0.004"
        probes = [
            {"name": "clean", "kind": "clean", "ball": None, "cases": 210},
            {"name": f"pgd[{ball}]", "kind": "attack", "ball": ball, "cases": 100},
        ]
        return {
            "state": self.state, "failure_limit": 0.05, "probes": probes,
            "metrics": {"dice": {"better": "higher"}}, "subgroups": [["sex"], ["sex", "age_band"]],
        }  # fmt: skip


def rule(bound="floor", limit=0.8, **changes):
    settings = {"id": "r", "probe": "clean", "metric": "dice", "bound": bound, "limit": limit}
    return Rule(**settings | changes)


def verdict(one_rule, *rows, lost=()):
    found = judge(Policy((one_rule,)), Findings(list(rows), list(lost)), TODAY)
    assert len(found) == 1
    return found[0]


GRID = [0.0, 0.2, 0.4, 0.6]


@pytest.mark.parametrize("bound", ["floor", "ceiling"])
def test_every_small_interval_is_judged_as_if_each_point_in_it_voted(bound):
    for low, high in itertools.combinations_with_replacement(GRID, 2):
        for limit in (-0.1, 0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7):
            points = np.linspace(low, high, 25)
            kept = points >= limit - 1e-12 if bound == "floor" else points <= limit + 1e-12
            expected = "pass" if kept.all() else "fail" if not kept.any() else "undecided"
            found = verdict(rule(bound, limit), row(value=low, low=low, high=high))
            assert found.verdict == expected, (low, high, limit)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_margin_is_judged_by_harm_whichever_way_the_metric_points(better):
    for low, high in itertools.combinations_with_replacement([-0.3, -0.1, 0.0, 0.1, 0.3], 2):
        for margin in (0.0, 0.05, 0.1, 0.2):
            points = np.linspace(low, high, 41)
            harm = -points if better == "higher" else points
            kept = harm <= margin + 1e-12
            expected = "pass" if kept.all() else "fail" if not kept.any() else "undecided"
            found = verdict(
                rule("margin", margin, subgroup=("sex",)), group("F", low, high, better=better)
            )
            assert found.verdict == expected, (low, high, margin)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.05, 0.05, "pass"), (-0.2, 0.05, "undecided"), (0.2, 0.3, "undecided")],
)
def test_a_signed_difference_can_only_acquit_where_zero_is_best(low, high, expected):
    found = verdict(rule("margin", 0.1, subgroup=("sex",)), group("F", low, high, better="zero"))
    assert found.verdict == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-2.0, 1.0, "pass"), (-4.0, 1.0, "undecided"), (-9.0, -4.0, "fail"), (4.0, 9.0, "fail")],
)
def test_a_ceiling_bounds_the_size_of_what_is_best_near_zero(low, high, expected):
    found = verdict(rule("ceiling", 3), row(value=low, low=low, high=high, better="zero"))
    assert found.verdict == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patients": 29}, "29 patients, the rule needs 30"),
        ({"patients": 7, "status": "suppressed", "value": math.nan}, "fewer than 10 patients"),
        ({"patients": 0, "status": "undefined", "value": math.nan}, "no case has a value"),
        ({"low": math.nan, "high": math.nan, "status": "no interval"}, "no interval could be"),
        ({"failed": 20}, "20 cases failed or are not supported, over 5.0%"),
    ],
)
def test_too_little_behind_a_number_decides_nothing_and_says_what_is_missing(changes, said):
    found = verdict(rule("floor", 0.1), row(**changes))
    assert found.verdict == "undecided"
    assert said in found.reason
    assert "nan" not in found.observed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "suppressed", "reason": "fewer than 20 patients in all"}, "20 patients in all"),
        ({"status": "undefined", "value": math.nan, "reason": "no such case"}, "no such case"),
        ({"low": math.nan, "status": "no interval", "reason": "a value is infinite"}, "infinite"),
        ({"status": "not gated", "reason": "10 to 29 patients"}, "29 patients; the rule needs 30"),
    ],
)
def test_what_the_table_says_of_itself_is_passed_on(changes, said):
    found = verdict(rule("floor", 0.1), row(**changes))
    assert found.verdict == "undecided"
    assert said in found.reason


def test_the_rule_and_not_the_table_says_how_many_patients_are_enough():
    few = row(patients=12, status="not gated")
    assert verdict(rule(min_patients=12), few).verdict == "pass"
    assert verdict(rule(min_patients=13), few).verdict == "undecided"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rest_patients": math.nan}, "fewer than 10 patients outside this group"),
        ({"rest_patients": 12}, "12 patients in the rest, the rule needs 30"),
        ({"difference_low": math.nan}, "no interval of the difference"),
    ],
)
def test_a_comparison_needs_two_sides(changes, said):
    found = verdict(rule("margin", 0.5, subgroup=("sex",)), group("F", 0, 0.1, **changes))
    assert found.verdict == "undecided"
    assert said in found.reason


PGD = "pgd[linf<=0.004]"


@pytest.mark.parametrize("probe", [PGD, "worst[linf<=0.004]"])
@pytest.mark.parametrize(("lost", "expected"), [(5, "pass"), (6, "undecided")])
def test_a_probe_that_failed_too_often_decides_nothing_nor_does_its_worst_case(
    probe, lost, expected
):
    failures = [(f"c{i}", PGD, "CaseError") for i in range(lost)]
    failures += [("c0", PGD, "CaseError")]
    found = verdict(rule(probe=probe), row(probe=probe), lost=failures)
    assert found.verdict == expected
    assert ("failed on 6 of 100 cases" in found.reason) == (expected == "undecided")


def test_what_a_component_does_not_support_is_no_failure():
    failures = [(f"c{i}", PGD, "UnsupportedError") for i in range(50)]
    assert verdict(rule(probe=PGD), row(probe=PGD), lost=failures).verdict == "pass"


def test_undefined_and_failed_cases_are_told_beside_the_verdict():
    found = verdict(rule(), row(undefined=3, failed=2))
    assert found.verdict == "pass"
    assert found.reason.endswith("3 undefined, 2 failed, 210 cases with a value")


@pytest.mark.parametrize(
    ("validity", "limit", "expected"),
    [
        ("masked", 0.8, "undecided"), ("masked", 0.95, "fail"), ("masked", 0.85, "undecided"),
        ("suspect", 0.8, "pass"), ("valid", 0.8, "pass"), ("unchecked", 0.8, "pass"),
    ],
)  # fmt: skip
def test_what_a_masked_attack_leaves_standing_passes_no_rule(validity, limit, expected):
    (found,) = judge(Policy((rule(limit=limit),)), Findings([row(validity=validity)]), TODAY)
    assert found.verdict == expected
    doubted = validity != "valid"
    assert found.observed.endswith(f" ({validity})") == doubted
    said = "but the attack is masked" in found.reason
    assert said == (validity == "masked" and limit == 0.8)


def test_a_subgroup_rule_judges_every_group_and_not_recorded_is_one():
    rows = [row(), *(group(name, -0.01, 0.01) for name in ("F", "M", "not recorded"))]
    found = judge(Policy((rule("margin", 0.1, subgroup=("sex",)),)), Findings(rows), TODAY)
    assert [j.group for j in found] == ["sex = F", "sex = M", "sex = not recorded"]


def test_a_rule_without_subgroup_judges_all_patients_only():
    rows = [row(), group("F", 0, 0)]
    assert [j.group for j in judge(Policy((rule(),)), Findings(rows), TODAY)] == ["all"]


def test_a_rule_for_one_group_leaves_the_others_alone():
    rows = [group("F", 0, 0), group("M", 0, 0, value=0.2, status="suppressed")]
    assert verdict(rule(subgroup=("sex",), group="F"), *rows).verdict == "pass"


@pytest.mark.parametrize("better", ["higher", "lower", "zero"])
@pytest.mark.parametrize("bound", ["floor", "ceiling", "margin"])
def test_so_many_patients_more_settle_a_rule_if_the_value_stays(bound, better):
    """The oracle: an interval shrunk about its value by the root of the number of patients."""
    rng = np.random.default_rng(7)
    settled = 0
    for _ in range(50):
        value = rng.normal(0.3, 0.5)
        low, high = value - rng.uniform(0.1, 1.5), value + rng.uniform(0.1, 1.5)
        limit = abs(rng.normal(0.3, 0.5))

        def judged(times, value=value, low=low, high=high, limit=limit):
            below, above = ((value - end) / math.sqrt(times) for end in (low, high))
            ends = {"low": value - below, "high": value - above}
            if bound != "margin":
                return verdict(rule(bound, limit), row(value=value, better=better, **ends))
            ends = {f"difference_{end}": number for end, number in ends.items()}
            one = group("F", 0, 0, difference=value, better=better, **ends)
            return verdict(rule("margin", limit, subgroup=("sex",)), one)

        now = judged(1)
        if now.verdict != "undecided" or "cannot" in now.reason:
            continue
        needed = int(now.reason.split(": about ")[1].split()[0].replace(",", ""))
        settled += 1
        assert judged(needed / 200 * (1 + 1e-9)).verdict != "undecided"
        assert judged((needed - 1) / 200 * (1 - 1e-9)).verdict == "undecided"
    assert settled > 5


@pytest.mark.parametrize(
    ("one_rule", "one_row", "said"),
    [
        (rule("floor", 0.85), row(), "the value is on the limit"),
        (rule("floor", 0.84999), row(), "over 100,000 would be needed"),
        (
            rule("margin", 0.1, subgroup=("sex",)), group("F", 0.2, 0.3, better="zero"),
            "can only be kept, never broken",
        ),
        (rule("floor", 0.82), row(), "about 556 patients would, if the value stayed as it is"),
        (
            rule("margin", 0.06, subgroup=("sex",)), group("F", -0.1, 0.1),
            "about 556 patients in this group, and as many times more in the rest",
        ),
    ],
)  # fmt: skip
def test_an_undecided_rule_says_how_many_patients_would_settle_it(one_rule, one_row, said):
    found = verdict(one_rule, one_row)
    assert found.verdict == "undecided"
    assert said in found.reason


def test_a_rule_that_is_decided_asks_for_no_patients():
    for limit in (0.7, 0.95):
        assert "patients would" not in verdict(rule("floor", limit), row()).reason


def test_a_margin_says_which_gap_would_have_been_found_whatever_its_verdict():
    for limit, expected in ((0.3, "pass"), (0.05, "undecided"), (0.0, "undecided")):
        one = group("F", -0.1, 0.1, detectable=0.0834)
        found = verdict(rule("margin", limit, subgroup=("sex",)), one)
        assert found.verdict == expected
        assert found.power == "a gap of 0.083 would have been found with 80% power"


@pytest.mark.parametrize("missing", [{}, {"detectable": math.nan}, {"detectable": None}])
def test_where_no_gap_was_judged_or_none_is_known_nothing_is_said_of_power(missing):
    assert (
        verdict(rule("margin", 0.3, subgroup=("sex",)), group("F", 0, 0.1, **missing)).power == ""
    )
    assert verdict(rule(subgroup=("sex",)), group("F", 0, 0, detectable=0.1)).power == ""


def test_a_limit_on_what_is_best_near_one_holds_the_value_itself():
    for bound, limit, expected in (
        ("floor", 0.8, "pass"), ("ceiling", 1.2, "pass"), ("ceiling", 0.7, "fail"),
        ("floor", 1.0, "undecided"),
    ):  # fmt: skip
        one = row(value=1.0, low=0.9, high=1.1, better="one")
        assert verdict(rule(bound, limit), one).verdict == expected
    far = group("F", 0.4, 0.6, better="one")
    assert verdict(rule("margin", 0.1, subgroup=("sex",)), far).verdict == "undecided"
    assert verdict(rule("margin", 0.7, subgroup=("sex",)), far).verdict == "pass"


def test_the_terminal_tells_the_power_of_a_margin_that_is_kept():
    policy = Policy((rule("margin", 0.3, subgroup=("sex",)),))
    rows = [group(name, -0.1, 0.1, detectable=0.0834) for name in NAMES]
    text = gate_table(judge(policy, Findings(rows), TODAY))
    assert max(columns(line) for line in text.splitlines()) <= 80
    assert "r, sex = F: a gap of 0.083 would have been found with 80% power" in text


def test_the_order_of_attributes_does_not_matter():
    both = group(
        "F \N{MULTIPLICATION SIGN} 80+", 0, 0, subgroup="sex \N{MULTIPLICATION SIGN} age_band"
    )
    assert (
        verdict(rule(subgroup=("age_band", "sex")), both).group
        == "sex \N{MULTIPLICATION SIGN} age_band = F \N{MULTIPLICATION SIGN} 80+"
    )


def test_a_group_that_is_not_there_is_undecided():
    found = verdict(rule(subgroup=("sex",), group="X"), row(), group("F", 0, 0))
    assert (found.verdict, found.reason) == ("undecided", "the run has no such group")


def test_every_name_that_the_run_lacks_is_told_at_once_with_what_was_meant():
    rules = (
        rule(id="a", probe="claen"),
        rule(id="b", metric="dise"),
        rule(id="c", subgroup=("sx",)),
    )
    with pytest.raises(InputError) as caught:
        judge(Policy(rules), Findings([row()]), TODAY)
    assert str(caught.value).splitlines() == [
        "rule 'a': the run has no probe 'claen'; did you mean 'clean'?",
        "rule 'b': probe 'clean' has no metric 'dise'; did you mean 'dice'?",
        "rule 'c': the run has no subgroup 'sx'; did you mean 'sex'?",
    ]


@pytest.mark.parametrize("state", ["running", "interrupted", "failed", "contradiction"])
def test_only_a_complete_run_is_judged(state):
    with pytest.raises(IncompleteError, match=state):
        judge(Policy((rule(),)), Findings([row()], state=state), TODAY)


def expected_overall(results):
    """The table of the contract, written out."""
    blocking = [v for v, severity, waived in results if severity == "block" and not waived]
    if "fail" in blocking:
        return "fail"
    return "undecided" if "undecided" in blocking else "pass"


def test_the_overall_verdict_follows_its_truth_table():
    single = list(
        itertools.product(("pass", "fail", "undecided"), ("block", "warn"), (False, True))
    )
    waiver = Waiver("r", "why", "who", date(2027, 1, 1))
    for results in itertools.product(single, repeat=2):
        judgements = [
            Judgement(rule(severity=s), "all", v, "", "", waiver if w else None)
            for v, s, w in results
        ]
        assert overall_verdict(judgements) == expected_overall(results), results


def test_nothing_judged_is_no_pass():
    assert overall_verdict(()) == "undecided"


def test_a_waiver_stops_counting_the_day_after_it_expires():
    policy = parse_policy(
        '[[rule]]\nid = "r"\nprobe = "clean"\nmetric = "dice"\nfloor = 0.95\n'
        '[[waiver]]\nrule = "r"\nreason = "w"\napprover = "A"\nexpires = 2026-11-01\n'
    )
    found = judge(policy, Findings([row()]), date(2026, 11, 1))
    assert (found[0].verdict, found[0].outcome, overall_verdict(found)) == (
        "fail", "waived", "pass",
    )  # fmt: skip
    found = judge(policy, Findings([row()]), date(2026, 11, 2))
    assert (found[0].outcome, overall_verdict(found)) == ("fail", "fail")


def test_an_interval_at_the_limit_never_prints_as_if_it_kept_it():
    found = verdict(rule("floor", 0.8), row(low=0.79996))
    assert found.verdict == "undecided"
    assert "[0.799, 0.900]" in found.observed


NAMES = ("F", "a very long name of a group that goes on and on and on for ever", "東京" * 30, "אב")


def test_the_table_for_a_terminal_is_at_most_80_columns_wide():
    rows = [group(name, -123456.7, 0.123, value=-98765.4321, patients=123456) for name in NAMES]
    rules = (
        rule("margin", 123456.78, id="an-id-that-is-much-too-long-for-one-column" * 3,
             subgroup=("sex",)),
        rule("floor", 0.0000123, id="b", subgroup=("sex",), severity="warn"),
    )  # fmt: skip
    text = gate_table(judge(Policy(rules), Findings(rows), TODAY))
    assert max(columns(line) for line in text.splitlines()) <= 80
    assert len(text.split("\n\n")[0].splitlines()) == 2 + 2 * len(NAMES)
    assert text.rstrip().splitlines()[-1].startswith("gate: ")


def test_the_table_for_a_terminal_shows_verdict_number_and_limit():
    text = gate_table(judge(Policy((rule(),)), Findings([row()]), TODAY))
    assert "pass     r     all    0.850 [0.800, 0.900] n=200  floor 0.8" in text
    assert "gate: pass (1 pass)" in text


def test_control_characters_of_a_group_do_not_reach_the_terminal():
    text = gate_table(
        judge(
            Policy((rule(subgroup=("sex",)),)),
            Findings([group("\x1b[31mred\x07\u202e", 0, 0)]),
            TODAY,
        )
    )
    assert text.replace("\n", "").isprintable()
    assert "[31mred" in text


@pytest.mark.parametrize(
    ("better", "said"),
    [
        ("higher", "harm, rest minus group, [0.200, 0.300] breaks"),
        ("lower", "harm, group minus rest, [-0.300, -0.200] keeps"),
        ("zero", "distance from the rest"),
    ],
)
def test_a_margin_says_what_is_taken_from_what(better, said):
    found = verdict(rule("margin", 0.1, subgroup=("sex",)), group("F", -0.3, -0.2, better=better))
    assert said in found.reason

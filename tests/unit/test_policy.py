"""A policy file is read whole, or every mistake in it is told at once."""

from datetime import date

import pytest

from robustbench_med.errors import InputError
from robustbench_med.reports.policy import Rule, load_policy, parse_policy

RULE = '[[rule]]\nid = "r"\nprobe = "clean"\nmetric = "dice"\n'
WAIVER = '[[waiver]]\nrule = "r"\nreason = "small"\napprover = "A"\nexpires = 2027-03-01\n'


def complaints(text):
    with pytest.raises(InputError) as caught:
        parse_policy(text)
    return str(caught.value).splitlines()


def test_a_rule_gets_its_defaults():
    policy = parse_policy(RULE + "floor = 0.8")
    assert policy.rules == (Rule("r", "clean", "dice", "floor", 0.8),)
    rule = policy.rules[0]
    assert (rule.min_patients, rule.severity, rule.test) == (30, "block", "interval")


def test_a_full_rule_is_read_as_written():
    text = RULE + (
        'margin = 0\nsubgroup = ["sex", "age_band"]\ntest = "noninferior"\n'
        'min_patients = 1\nseverity = "warn"\n'
    )
    rule = parse_policy(text).rules[0]
    assert rule == Rule("r", "clean", "dice", "margin", 0.0, ("sex", "age_band"), None, 1, "warn")
    assert rule.test == "noninferior"


@pytest.mark.parametrize(
    ("written", "names", "group"),
    [
        ('"sex"', ("sex",), None),
        ('"sex=F"', ("sex",), "F"),
        ('"site==cmd()"', ("site",), "=cmd()"),
        ('["sex", "age_band"]', ("sex", "age_band"), None),
        (
            '"sex \N{MULTIPLICATION SIGN} age_band=F \N{MULTIPLICATION SIGN} 80+"',
            ("sex", "age_band"),
            "F \N{MULTIPLICATION SIGN} 80+",
        ),
    ],
)
def test_a_subgroup_may_be_named_in_each_of_its_forms(written, names, group):
    rule = parse_policy(f"{RULE}floor = 1\nsubgroup = {written}").rules[0]
    assert (rule.subgroup, rule.group) == (names, group)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "exactly one of floor, ceiling, margin, got none"),
        ("floor = 1\nceiling = 2", "got floor and ceiling"),
        ("flor = 1\nfloor = 1", "unknown key 'flor'; did you mean 'floor'?"),
        ("floor = true", "floor must be a finite number, got True"),
        ("floor = nan", "floor must be a finite number, got nan"),
        ("ceiling = inf", "ceiling must be a finite number, got inf"),
        ('floor = "0.8"', "floor must be a finite number, got '0.8'"),
        ("margin = 0.1", "a margin compares groups: subgroup is needed"),
        ('margin = -0.1\nsubgroup = "sex"', "margin must be at least 0, got -0.1"),
        ('floor = 1\ntest = "noninferior"', "a floor is tested by 'interval', not"),
        ('margin = 1\nsubgroup = "sex"\ntest = "interval"', "a margin is tested by 'noninferior'"),
        ('floor = 1\ntest = "intervall"', "test 'intervall': did you mean 'interval'?"),
        ('floor = 1\nseverity = "blok"', "severity 'blok': did you mean 'block'?"),
        ("floor = 1\nmin_patients = 0", "min_patients must be a whole number of at least 1, got 0"),
        ("floor = 1\nmin_patients = 2.5", "at least 1, got 2.5"),
        ("floor = 1\nmin_patients = true", "at least 1, got True"),
        ("floor = 1\nsubgroup = 3", "subgroup must be 'sex', 'sex=F' or a list of names, got 3"),
        ("floor = 1\nsubgroup = []", "subgroup must name different attributes"),
        ('floor = 1\nsubgroup = ["sex", "sex"]', "subgroup must name different attributes"),
        ('floor = 1\nsubgroup = ["sex=F", "age"]', "subgroup must be"),
        ('floor = 1\nsubgroup = "=F"', "subgroup must read like"),
        ('floor = 1\nsubgroup = "sex="', "subgroup must read like"),
        ('floor = 1\nsubgroup = ""', "subgroup must be"),
    ],
)
def test_each_mistake_in_a_rule_is_told_where_it_is(line, said):
    found = complaints(RULE + line)
    assert len(found) == 1
    assert found[0].startswith("policy: rule 'r': ")
    assert said in found[0]


def test_all_mistakes_are_told_at_once():
    text = (
        "[[rule]]\nprobe = 3\nfloor = 1\n" + RULE + "floor = 1\n" + RULE + "floor = 2\n"
        "[[waver]]\n"
        '[[waiver]]\nrule = "q"\nreason = " "\nexpires = "2027-03-01"\n'
    )
    found = complaints(text)
    assert found == [
        "policy: unknown key 'waver'; did you mean 'waiver'?",
        "policy: rule 1: id must be a text that is not empty, got nothing",
        "policy: rule 1: probe must be a text that is not empty, got 3",
        "policy: rule 1: metric must be a text that is not empty, got nothing",
        "policy: rule 'r': this id is there 2 times",
        "policy: waiver 1: rule 'q': known: r",
        "policy: waiver 1: reason must be a text that is not empty, got ' '",
        "policy: waiver 1: approver must be a text that is not empty, got nothing",
        "policy: waiver 1: expires must be a date such as 2027-03-01, unquoted, got '2027-03-01'",
    ]


def test_a_time_of_day_is_no_date_of_expiry():
    text = RULE + "floor = 1\n" + WAIVER.replace("2027-03-01", "2027-03-01T00:00:00")
    assert "expires must be a date" in complaints(text)[0]


def test_a_policy_without_rules_is_refused():
    assert complaints("") == ["policy: expected at least one [[rule]], got none"]


def test_single_brackets_are_explained():
    assert "write [[rule]]" in complaints(RULE.replace("[[rule]]", "[rule]") + "floor = 1")[0]


def test_text_that_is_not_toml_is_told_with_its_line():
    assert "policy: not TOML" in complaints("rule = [")[0]


def test_a_file_is_read_and_its_path_begins_each_complaint(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(RULE + "floor = 1\n" + WAIVER, encoding="utf-8")
    assert load_policy(path).waivers[0].expires == date(2027, 3, 1)
    path.write_text(RULE, encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.toml: rule 'r'"):
        load_policy(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load_policy(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(tmp_path / "none.toml")


def test_a_waiver_holds_up_to_and_including_its_last_day():
    policy = parse_policy(RULE + "floor = 1\n" + WAIVER)
    assert policy.waiver("r", date(2027, 3, 1)) is policy.waivers[0]
    assert policy.waiver("r", date(2027, 3, 2)) is None
    assert policy.waiver("other", date(2026, 1, 1)) is None


def test_of_several_waivers_the_longest_counts():
    later = WAIVER.replace("2027-03-01", "2028-03-01")
    policy = parse_policy(RULE + "floor = 1\n" + WAIVER + later)
    assert policy.waiver("r", date(2027, 6, 1)).expires == date(2028, 3, 1)

"""Numbers and foreign text in words."""

import math

import pytest

from robustbench_med.reports.wording import (
    count,
    estimate,
    harm,
    interval,
    label,
    number,
    p_value,
    share,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8125, "0.812"), (0.57, "0.570"), (0, "0.000"), (-0.0, "0.000"), (1, "1.000"),
        (-1.2346, "-1.235"), (99.9999, "100.000"), (123.456, "123.5"), (123456.7, "123456.7"),
        (1.23456e8, "1.23e+8"), (0.000123456, "1.23e-4"), (3.21e-9, "3.21e-9"),
        (math.inf, "\N{INFINITY}"), (-math.inf, "-\N{INFINITY}"),
        (math.nan, "\N{EN DASH}"), (None, "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_a_number_keeps_three_decimals_or_three_digits(value, text):
    assert number(value) == text


def test_an_interval_is_rounded_outward():
    assert interval(0.7996, 0.8004) == "[0.799, 0.801]"
    assert interval(-0.0004, 0.57) == "[-0.001, 0.570]"
    assert interval(-0.0004, 0.0002) == "[-4.00e-4, 2.00e-4]"
    assert interval(0.0001, math.inf) == "[1.00e-4, \N{INFINITY}]"
    assert interval(0.0, 0.0) == "[0.000, 0.000]"
    assert interval(math.nan, 1.0) == "\N{EN DASH}"


def test_an_estimate_names_value_interval_and_patients():
    assert estimate(0.8121, 0.77, 0.85, 212) == "0.812 [0.770, 0.850] n=212"
    assert estimate(math.nan, math.nan, math.nan, 7) == "\N{EN DASH} n<10"


@pytest.mark.parametrize(
    ("patients", "text"), [(0, "0"), (1, "<10"), (9, "<10"), (10, "10"), (math.nan, "\N{EN DASH}")]
)
def test_few_patients_are_not_told_apart(patients, text):
    assert count(patients) == text


def test_a_share_of_nothing_is_a_dash():
    assert (share(1, 8), share(1, 0)) == ("12.5%", "\N{EN DASH}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\tb  c", "a b c"), ("\x1b[31mred\x00", "[31mred"), ("\u202eabc\u2069", "abc"),
        ("", "(empty)"), ("\u200b", "(empty)"), (None, "None"), (3, "3"),
    ],
)  # fmt: skip
def test_foreign_text_becomes_one_printable_line(text, line):
    assert label(text) == line


@pytest.mark.parametrize("length", [59, 60, 61, 10_000])
def test_a_label_is_never_longer_than_asked_and_says_when_it_was_cut(length):
    shown = label("x" * length)
    assert len(shown) == min(length, 60)
    assert shown.endswith("\N{HORIZONTAL ELLIPSIS}") == (length > 60)


def test_a_long_text_of_hidden_characters_still_says_that_it_was_cut():
    assert label("\u200b" * 10_000 + "a") == "\N{HORIZONTAL ELLIPSIS}"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.0494, "p = 0.049"),
        (0.0499, "p < 0.05"), (0.05, "p = 0.050"), (1.0, "p = 1.000"), (math.nan, "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_a_p_value_is_never_rounded_onto_the_level_it_stays_below(p, text):
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("better", "worse", "milder"),
    [("higher", 0.1, 0.9), ("lower", 0.9, 0.1), ("zero", -3.0, 1.0), ("one", 0.2, 1.5)],
)
def test_harm_is_larger_the_worse_a_value_is(better, worse, milder):
    assert harm(worse, better) > harm(milder, better)

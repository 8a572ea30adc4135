"""Five levels in a unit, and straight lines between them."""

import numpy as np
import pytest

from robustbench_med.errors import InputError
from robustbench_med.shifts.severity import require_levels, require_levels_or_zeros, strength

LEVELS = (0.1, 0.2, 0.5, 0.5, 2.0)


@pytest.mark.parametrize("severity", [*np.linspace(0, 5, 23), 1, 2, 3, 4, 5, 0])
def test_a_strength_is_that_of_the_level_and_in_a_line_between(severity):
    expected = np.interp(severity, range(6), [0, *LEVELS])
    assert strength("x", LEVELS, float(severity)) == pytest.approx(expected, rel=1e-12)


def test_whole_severities_have_their_level_exactly():
    assert [strength("x", LEVELS, v) for v in range(6)] == [0, *LEVELS]
    assert strength("x", (0.01, 0.02, 0.03, 0.03, 0.29), 5) == 0.29  # 0.03 + (0.29 - 0.03) is more


@pytest.mark.parametrize("severity", [-0.1, 5.01, float("nan"), float("inf")])
def test_a_severity_outside_is_refused_by_name(severity):
    with pytest.raises(InputError, match="blur: severity must be from 0 to 5, got"):
        strength("blur", LEVELS, severity)


@pytest.mark.parametrize(
    "levels",
    [0.1, "12345", (1, 2, 3, 4), (0, 1, 2, 3, 4), (1, 2, 3, 5, 4), (1, 2, 3, 4, float("inf")),
     (1, 2, True, 4, 5), None, (-1, 2, 3, 4, 5)],
)  # fmt: skip
def test_what_is_no_five_levels_is_refused(levels):
    with pytest.raises(InputError, match="blur: sigma must be five numbers above 0"):
        require_levels("blur: sigma", levels)


def test_five_zeros_are_for_a_part_that_may_be_left_out():
    assert require_levels_or_zeros("x: degrees", [0] * 5) == (0.0,) * 5
    assert require_levels_or_zeros("x: degrees", LEVELS) == LEVELS
    assert strength("x", (0.0,) * 5, 3.5) == 0
    with pytest.raises(InputError, match="x: sigma must be five numbers above 0"):
        require_levels("x: sigma", (0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "levels", [0, [0] * 4, (0, 1, 2, 3, 4), (-1, 0, 0, 0, 0), (0, 0, 0, 0, True)]
)
def test_what_is_neither_five_zeros_nor_five_levels_is_refused(levels):
    with pytest.raises(InputError, match="x: degrees must be five zeros, for none of it, or five"):
        require_levels_or_zeros("x: degrees", levels)


def test_a_list_as_a_plan_gives_it_will_do_and_becomes_a_tuple():
    assert require_levels("blur: sigma", [1, 2, 2, 3, 4.5]) == (1.0, 2.0, 2.0, 3.0, 4.5)
    assert strength("blur", [1, 2, 2, 3, 4.5], 4.5) == 3.75

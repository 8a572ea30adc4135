"""What several panels say together: what one attack breaks, the misses of another cannot undo."""

import json
from dataclasses import replace

import pytest
import torch

from robustbench_med.engine.validity import Panel
from robustbench_med.engine.validity_checks import Limits, counted, not_asked
from robustbench_med.engine.validity_store import panel_path, read_panel, told, write_panel
from robustbench_med.engine.validity_together import together
from robustbench_med.errors import IntegrityError
from robustbench_med.runfolder import Run

N = 40
IDS = tuple(f"case{i}" for i in range(N))


def row(cases):
    found = torch.zeros(N, dtype=torch.bool)
    found[list(cases)] = True
    return found


def a_check(name, cases):
    if cases is None:
        return not_asked(name, "why not")
    gravest = "suspect" if name == "seed" else "masked"
    return counted(name, row(cases), Limits(), "why", worst=gravest)


def a_panel(broken=(), breakable=(), decides=True, raises="TaskLoss()", **against):
    """Checks by name, each with the cases that speak against the attack; None is not asked."""
    made = tuple(a_check(name, cases) for name, cases in against.items())
    broken = tuple(broken)
    return Panel(
        "A", "linf<=0.1", raises, IDS, broken, tuple({*broken, *breakable}), decides, made, Limits()
    )


def says(panel):
    return {check.name: (check.says, len(check.against)) for check in panel.checks}


def test_a_weak_attack_beside_a_strong_one_does_not_mask_the_worst_case():
    weak = a_panel(broken=range(5), breakable=range(30), black_box=range(5, 30))
    strong = a_panel(broken=range(29), black_box=[])
    assert weak.verdict == "masked"
    found = together([weak, strong])
    assert says(found) == {"black_box": ("ok", 1)}
    assert found.verdict == "valid"
    assert found.withstood == pytest.approx(11 / 40)
    assert found.at_most == pytest.approx(10 / 40)


def test_what_no_attack_of_the_ball_finds_still_counts_from_any_of_them():
    first = a_panel(broken=range(5), black_box=range(10, 20))
    second = a_panel(broken=range(5, 10), black_box=range(20, 30))
    assert says(together([first, second])) == {"black_box": ("masked", 20)}


@pytest.mark.parametrize("name", ["gradient", "linearity", "large_ball", "planted"])
def test_one_attack_that_is_able_is_enough(name):
    blind, able = a_panel(**{name: range(40)}), a_panel(**{name: range(3)})
    assert says(together([blind, able])) == {name: ("ok", 3)}
    assert says(together([blind, blind]))[name] == ("masked", 40)
    assert says(together([blind, a_panel(**{name: None})]))[name] == ("masked", 40)
    assert says(together([a_panel(**{name: None})] * 2))[name] == ("not asked", 0)


def test_a_case_in_another_ball_or_model_is_not_forgiven_for_being_broken_here():
    both = a_panel(broken=range(40), planted=range(40), gradient=range(40))
    assert says(together([both, both])) == {"planted": ("masked", 40), "gradient": ("ok", 0)}


def test_a_check_that_shows_only_that_an_attack_may_fail_stays_suspect():
    found = together([a_panel(seed=range(20)), a_panel(seed=range(20, 40))])
    assert says(found) == {"seed": ("suspect", 40)}


def test_without_a_decision_what_every_attack_on_one_objective_misses_counts():
    weak, strong = (a_panel(decides=False, random=r) for r in (range(20), range(15, 22)))
    assert says(together([weak, strong])) == {"random": ("suspect", 5)}
    other = a_panel(decides=False, raises="Erase(label=1)", random=range(30))
    found = together([weak, strong, other])
    assert says(found) == {"random": ("masked", 30)}
    assert found.withstood != found.withstood


def test_one_panel_says_the_same_of_its_worst_case():
    only = a_panel(broken=range(5), black_box=range(5, 30), planted=None)
    assert together([only]) == replace(only, attack="worst")


def test_a_panel_comes_back_from_its_file_as_it_was(tmp_path):
    run = Run(tmp_path)
    kept = a_panel(broken=range(3), black_box=range(4, 9), seed=[], planted=None)
    write_panel(run, "abc", "pgd", kept)
    assert str(read_panel(run, "abc")) == str(kept)  # NaN never equals itself
    assert read_panel(run, "other") is None
    write_panel(run, "why", "pgd", "nothing to check")
    assert read_panel(run, "why") == "nothing to check"
    panel_path(run, "abc").write_text("[]", encoding="utf-8")
    with pytest.raises(IntegrityError, match="delete it and run again"):
        read_panel(run, "abc")


def test_the_manifest_is_told_figures_and_no_case():
    text = json.dumps(told(a_panel(broken=range(3), black_box=range(4, 9))))
    assert "case" not in text.replace("cases", "")

"""The pages of the nouns tested here: their programs run, and the attack's does what it says."""

import re
from pathlib import Path

import pytest
import torch

from robustbench_med import components

DOCS = Path(__file__).parents[2] / "docs"


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_the_attack_of_twenty_lines_runs_and_breaks_the_model():
    *_, program = programs("attack.md")
    scope = {"__name__": "page"}
    exec(compile(program, "attack.md", "exec"), scope)  # noqa: S102
    clean, found, gradient = scope["accuracy"].values()
    assert clean == pytest.approx(1.0)
    assert gradient <= found < clean


def test_the_attack_of_the_page_is_twenty_lines_long():
    *_, program = programs("attack.md")
    attack = program[program.index("@dataclass") : program.index("task = ")].strip()
    assert len(attack.splitlines()) <= 20


@pytest.mark.parametrize("page", ["ball.md", "shift.md", "metric.md"])
def test_the_program_of_a_page_runs(page):
    assert programs(page)
    for program in programs(page):
        names = {"__name__": "page"}
        exec(compile(program, page, "exec"), names)  # noqa: S102
        assert len(names) > 2, "the program defines nothing"


@pytest.mark.parametrize(
    ("page", "kind"), [("attack.md", "attacks"), ("shift.md", "shifts"), ("metric.md", "metrics")]
)
def test_a_page_names_every_component_that_comes_with_the_package(page, kind):
    text = (DOCS / page).read_text()
    assert all(f"`{name}`" in text for name in components.names(kind))

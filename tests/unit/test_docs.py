"""What the pages say of the code: links, nouns, names, keys, commands, layers."""

import re
import runpy
from pathlib import Path

import pytest

from robustbench_med import cli, components, errors
from robustbench_med.commands.gate import EXIT_CODES
from robustbench_med.errors import InputError
from robustbench_med.plan import parse_plan

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NOUNS = (
    "Case", "Cohort", "Task", "Model", "Ball", "Attack", "Shift", "Certifier", "Metric", "Probe",
    "Record", "Slice", "Estimate", "Rule", "Verdict", "Section", "Evidence", "Plan", "Run",
)  # fmt: skip
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page):
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)


def table(page, heading):
    """Rows, as lists of cells, of the first table whose head begins with `heading`."""
    lines = iter(text(page).splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    rows = []
    while (line := next(lines, "")).startswith("|"):
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def anchors(path):
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_inside_the_repository_resolves(page):
    targets = [found for found in LINK.findall(prose(page)) if "://" not in found]
    for target in targets:
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {(page.parent / t.partition("#")[0]).resolve() for t in LINK.findall(prose(page))}
        waiting += [t for t in targets & set(PAGES) if t not in reached]
    assert reached == set(PAGES)


def test_every_noun_has_a_page_that_speaks_of_it():
    rows = table("docs/README.md", "noun")
    assert tuple(row[0] for row in rows) == NOUNS
    for noun, _, link in rows:
        page = DOCS / LINK.search(link)[1]
        assert re.search(rf"\b{noun}s?\b", page.read_text(encoding="utf-8"), re.IGNORECASE), page


def test_the_names_that_a_plan_may_use_are_those_that_exist():
    documented = {quoted(kind)[0]: quoted(names) for kind, names in table("docs/plan.md", "kind")}
    assert set(documented) == {*cli.KINDS} - {"sections"}
    for kind, names in documented.items():
        assert names == components.names(kind)


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [("attack", "name", "attacks"), ("attack", "objective", "objectives"),
     ("attacks", "attack", "attacks"), ("shift", "name", "shifts"),
     ("shift", "search", "searches"), ("metric", "name", "metrics"),
     ("certifier", "name", "certifiers"), ("report", "section", "sections")],
)  # fmt: skip
def test_a_nouns_page_lists_the_components_that_exist_and_no_others(page, heading, kind):
    listed = [row[0].strip("`") for row in table(f"docs/{page}.md", heading)]
    assert sorted(listed) == components.names(kind)


def test_every_oracle_of_an_attack_is_a_file_of_tests():
    held = {name for row in table("docs/attacks.md", "attack") for name in quoted(row[-1])}
    held = {name for name in held if name.startswith("test_")}
    assert len(held) > 10
    assert all((ROOT / "tests" / "unit" / f"{name}.py").is_file() for name in held)


def test_every_key_of_a_plan_is_documented_and_no_other():
    raw = {"name": "x", "cohort": {"use": "a:b"}, "model": {"use": "a:b"}, "zzzzzzzz": 1}
    with pytest.raises(InputError, match="zzzzzzzz") as refused:
        parse_plan(raw, Path("plan.toml"))
    known = re.search(r"'zzzzzzzz'; known: (.*)", str(refused.value))[1].split(", ")
    documented = [quoted(row[0])[0] for row in table("docs/plan.md", "key")]
    assert sorted(documented) == sorted({*known})


def test_every_command_is_documented_and_every_documented_command_exists():
    parser = cli._parser()
    commands = set(parser._subparsers._group_actions[0].choices)
    listed = [quoted(row[0])[0].split()[1] for row in table("docs/cli.md", "command")]
    assert sorted(listed) == sorted(commands)
    for page in PAGES:
        for said in re.findall(r"\brbmed ([a-z]+|--[a-z]+)\b(?= [A-Z`]|`)", text(page)):
            assert said in commands | {"--version", "--help"}, page


def test_every_shell_line_that_calls_rbmed_is_a_legal_call():
    blocks = [b for p in PAGES for b in re.findall(r"^```sh\n(.*?)^```", text(p), re.M | re.S)]
    calls = [call.strip() for b in blocks for line in b.splitlines() for call in line.split("&&")]
    rbmed = [call.split()[1:] for call in calls if call.startswith("rbmed ")]
    assert len(rbmed) >= 8
    for arguments in rbmed:
        cli._parser().parse_args(arguments)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text(page), re.MULTILINE))
        assert named <= targets, page


def test_exit_codes_are_the_same_on_every_page_and_in_the_code():
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = {kind.exit_code for kind in kinds if hasattr(kind, "exit_code")}
    expected = sorted(raised | {*EXIT_CODES.values()})
    assert [int(row[0]) for row in table("README.md", "exit code")] == expected
    assert [int(row[0]) for row in table("docs/run.md", "code")] == expected


def test_the_layers_told_to_contributors_are_those_that_are_enforced():
    enforced = runpy.run_path(str(ROOT / "tests/test_architecture.py"))["LAYERS"]
    there = {path.stem for path in (ROOT / "robustbench_med").iterdir()} - {"__pycache__"}
    told = {row[0]: set(quoted(row[1])) for row in table("CONTRIBUTING.md", "layer")}
    for number, names in enumerate(enforced):
        assert told[str(number)] == names & there - {"__main__"}

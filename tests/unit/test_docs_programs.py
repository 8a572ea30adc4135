"""Every program, plan and policy on the pages works, and the README's study from end to end."""

import json
import re
import runpy
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import robustbench_med as rb
from robustbench_med.cli import main
from robustbench_med.plan import parse_plan
from robustbench_med.reports.policy import load_policy

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
STUDY = runpy.run_path(str(ROOT / "tests/e2e/study.py"))
REST_OF_A_PLAN = {
    "name": "page",
    "cohort": {"use": "folder", "folder": "data", "task": "classification", "columns": {}},
    "model": {"use": "lenet", "weights": "lenet.safetensors"},
}


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def every(language):
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT).as_posix()}:{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language), start=1)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with a plan, a policy and a finished run in runs/x, to work in."""
    folder = tmp_path_factory.mktemp("study")
    STUDY["write_study"](folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        assert main(["run", "plan.toml", "--out", "runs/x", "--quiet"]) == 0
        yield folder
    sys.modules.pop("study_model", None)


@pytest.mark.parametrize("program", every("python"))
def test_a_program_on_a_page_runs_as_it_stands(program, study):
    assert Path.cwd() == study
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(program, "page", "exec"), {"__name__": "page"})  # noqa: S102


@pytest.mark.parametrize("block", every("toml"))
def test_a_plan_or_policy_on_a_page_is_accepted(block, tmp_path, monkeypatch):
    monkeypatch.setenv("RBMED_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()  # what the attack `given` is shown to read
    image = {"image": torch.zeros(1, 2, 2)}
    save_file(image, tmp_path / "examples" / "a.safetensors", metadata={"case": "a"})
    path = tmp_path / "page.toml"
    path.write_text(block, encoding="utf-8")
    content = tomllib.loads(block)
    if "rule" in content:
        assert len(load_policy(path).rules) == len(content["rule"])
    else:
        assert parse_plan(REST_OF_A_PLAN | content, path).raw


def test_the_output_shown_on_the_page_of_commands_is_what_is_printed(study, capsys):
    (shown,) = [b for b in blocks(ROOT / "docs/cli.md", "text") if b.startswith("squares")]
    capsys.readouterr()
    assert main(["run", "plan.toml", "--out", "runs/x", "--quiet"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in shown.splitlines()] == shown.splitlines()


def test_the_manifests_keys_are_all_on_the_page_of_runs(study):
    page = (ROOT / "docs/run.md").read_text(encoding="utf-8")
    rows = page[page.index("## Manifest") : page.index("| `state` | means")].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    told = [key for cell in cells for key in re.findall("`(.*?)`", cell)]
    assert sorted(told) == sorted(json.loads((study / "runs/x/manifest.json").read_text()))


@pytest.fixture
def readme(tmp_path, monkeypatch):
    """The four files that the README shows, around images and weights that fit them."""
    page = ROOT / "README.md"
    (header, *_) = blocks(page, "csv")[0].splitlines()
    (model,) = [b for b in blocks(page, "python") if "def build" in b]
    plan, policy = blocks(page, "toml")
    for name, content in (("my_model.py", model), ("plan.toml", plan), ("policy.toml", policy)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "data/images").mkdir(parents=True)
    rows, rng = [header], np.random.default_rng(0)
    for i in range(80):
        pixels = rng.integers(0, 120, (64, 64)) + 120 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"data/images/c{i}.png")
        rows.append(f"c{i},p{i},images/c{i}.png,{i % 2},{'FM'[i // 2 % 2]},north")
    (tmp_path / "data/cases.csv").write_text("\n".join(rows), encoding="utf-8")
    weight = torch.full((2, 64 * 64), 0.01) * torch.tensor([[-1.0], [1.0]])
    bias = torch.tensor([0.46, -0.46]) * 0.01 * 64 * 64
    save_file({"1.weight": weight, "1.bias": bias}, tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_model", None)


def test_the_files_of_the_readme_make_a_study(readme, capsys):
    shell = "\n".join(blocks(ROOT / "README.md", "sh"))
    assert "rbmed run plan.toml && rbmed gate runs/lesions policy.toml" in shell
    assert main(["check", "plan.toml"]) == 0
    assert main(["run", "plan.toml", "--quiet"]) == 0
    assert main(["gate", "runs/lesions", "policy.toml"]) == 0
    assert capsys.readouterr().err == ""
    run = rb.Run.open("runs/lesions")
    everyone = run.estimates.query("group == 'all'")
    proved = everyone.query("kind == 'certificate' and metric == 'certified'")
    assert proved["value"].item() == 1.0
    assert proved["cases"].item() == 50

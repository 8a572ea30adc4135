"""What every end-to-end test starts from."""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from robustbench_med.cli import main
from robustbench_med.runfolder import Run

STUDY = runpy.run_path(str(Path(__file__).with_name("study.py")))


@dataclass(frozen=True)
class Study:
    folder: Path
    plan: Path
    capsys: pytest.CaptureFixture

    def edit(self, old, new):
        text = self.plan.read_text(encoding="utf-8")
        assert old in text
        self.plan.write_text(text.replace(old, new), encoding="utf-8")

    def edit_table(self, change):
        path = self.folder / "data" / "cases.csv"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")

    def edit_model(self, addition):
        """Add to the study's Python file and let it be imported afresh."""
        path = self.folder / "study_model.py"
        path.write_text(path.read_text(encoding="utf-8") + addition, encoding="utf-8")
        sys.modules.pop("study_model", None)

    def rbmed(self, *arguments):
        """Run the command in this process; its exit code, output and complaint."""
        self.capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = self.capsys.readouterr()
        return code, told.out, told.err

    def run(self, *more):
        return self.rbmed("run", self.plan, "--out", self.folder / "run", "--quiet", *more)

    def refused(self, code, *arguments):
        """Lines of complaint of a command that must end with `code`, telling nothing else."""
        found, out, err = self.rbmed(*arguments)
        assert (found, out) == (code, ""), err
        assert "Traceback" not in err
        lines = err.splitlines()
        assert lines
        assert all(line.startswith("rbmed: ") for line in lines)
        return lines

    def refused_run(self, code=2):
        return self.refused(code, "run", self.plan, "--out", self.folder / "run", "--quiet")

    def opened(self):
        return Run.open(self.folder / "run")

    def report(self):
        return (self.folder / "run" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    plan = STUDY["write_study"](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "study_model", raising=False)
    yield Study(tmp_path, plan, capsys)
    sys.modules.pop("study_model", None)

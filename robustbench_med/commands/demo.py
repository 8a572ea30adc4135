"""`rbmed demo`: the whole flow on virtual patients made from one real brain."""

import argparse
import json
from importlib.resources import files
from pathlib import Path

from robustbench_med.commands.gate import judge_folder
from robustbench_med.commands.progress import progress_line
from robustbench_med.commands.run import overview
from robustbench_med.commands.train import train_plan
from robustbench_med.demo.brains import write_patients
from robustbench_med.plan import load_plan
from robustbench_med.reports.terminal import gate_table
from robustbench_med.runfolder import Run, write_text
from robustbench_med.running import run_plan

PATIENTS = {"train": 60, "test": 64}
SEED = 7
PLANS = ("segmentation.toml", "classification.toml")


def main(options: argparse.Namespace) -> int:
    """Write the data and the plans, train, run, judge; what is there already is not redone."""
    folder = options.out / "demo"
    lay_out(folder)
    runs = [_carry_out(folder / plan, options) for plan in PLANS]
    judgements = judge_folder(runs[0], folder / "policy.toml")
    if options.json:
        print(json.dumps({"runs": [str(run.folder) for run in runs]}))
        return 0
    for run in runs:
        print(overview(run), end="\n\n")
    print(gate_table(judgements))
    print(f"\nThe plans are in {folder}: change one and run it, e.g.")
    print(f"  rbmed run {folder / PLANS[0]} --out {runs[0].folder}")
    return 0


def lay_out(folder: Path) -> None:
    """Write plans, policy and patients into `folder`, where they are not there already."""
    for name in (*PLANS, "policy.toml"):
        if not (folder / name).is_file():
            text = (files("robustbench_med.demo") / name).read_text(encoding="utf-8")
            write_text(folder / name, text)
    drawn = folder / "images" / "drawn.json"
    made_of = json.dumps({"patients": PATIENTS, "seed": SEED})
    if not drawn.is_file() or drawn.read_text(encoding="utf-8") != made_of:
        write_patients(folder / "images", patients=PATIENTS, seed=SEED)
        write_text(drawn, made_of)


def _carry_out(path: Path, options: argparse.Namespace) -> Run:
    plan = load_plan(path)
    train_plan(plan, quiet=options.json)
    return run_plan(plan, options.out / plan.name, on_progress=progress_line(quiet=options.json))

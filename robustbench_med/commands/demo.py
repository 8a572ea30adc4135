"""`rbmed demo`: four tasks on simulated cardiac MR, and the chain from k-space to diagnosis."""

import argparse
import json
from importlib.resources import as_file, files
from pathlib import Path

from robustbench_med.commands.gate import judge_folder
from robustbench_med.commands.progress import progress_line
from robustbench_med.commands.run import overview
from robustbench_med.commands.train import train_plan
from robustbench_med.demo.examples import enlarge, make_examples
from robustbench_med.demo.page import digest_of_runs, write_page
from robustbench_med.plan import Plan, load_plan
from robustbench_med.reports.terminal import gate_table
from robustbench_med.runfolder import Run, write_text
from robustbench_med.running import run_plan

PLANS = (
    "reconstruction.toml", "total_variation.toml", "super_resolution.toml", "interpolation.toml",
    "segmentation.toml", "classification.toml", "chain.toml",
)  # fmt: skip
POLICY = "policy.toml"


def main(options: argparse.Namespace) -> int:
    """Write plans and weights, train what is not trained, run, judge; nothing is done twice."""
    folder = options.out / "demo"
    lay_out(folder, with_weights=not options.train)
    plans = {name: load_plan(folder / name) for name in PLANS}
    runs = {name: _carry_out(plan, options) for name, plan in plans.items()}
    page = _page(options.out, plans, list(runs.values()))
    judgements = judge_folder(runs["segmentation.toml"], folder / POLICY)
    if options.json:
        print(json.dumps({"runs": [str(run.folder) for run in runs.values()], "page": str(page)}))
        return 0
    print(overview(runs["chain.toml"]), end="\n\n")
    print(gate_table(judgements))
    print(f"\nThe plans are in {folder}: change one and run it, e.g.")
    print(f"  rbmed run {folder / 'segmentation.toml'} --out {runs['segmentation.toml'].folder}")
    print(f"The chain from k-space to diagnosis, on one page: {page}")
    return 0


def lay_out(folder: Path, *, with_weights: bool) -> None:
    """Write plans, policy and the weights that come with the package, where they are not yet."""
    source = files("robustbench_med.demo")
    for name in (*PLANS, POLICY):
        if not (folder / name).is_file():
            write_text(folder / name, (source / name).read_text(encoding="utf-8"))
    if not with_weights:
        return
    (folder / "weights").mkdir(exist_ok=True)
    with as_file(source / "weights") as shipped:
        for path in sorted(shipped.iterdir()):
            target = folder / "weights" / path.name
            if not target.is_file():
                target.write_bytes(path.read_bytes())


def _carry_out(plan: Plan, options: argparse.Namespace) -> Run:
    if plan.train is not None:
        train_plan(plan, quiet=options.json)
    return run_plan(plan, options.out / plan.name, on_progress=progress_line(quiet=options.json))


def _page(out: Path, plans: dict[str, Plan], runs: list[Run]) -> Path:
    """Write the page, unless it was made from these very runs."""
    page, stamp = out / "demo.html", out / "demo" / "page.json"
    made_from = digest_of_runs(runs)
    if not page.is_file() or not stamp.is_file() or stamp.read_text("utf-8") != made_from:
        examples = make_examples(plans["chain.toml"], plans["classification.toml"])
        write_page(page, runs, examples, enlarge(plans["super_resolution.toml"]))
        write_text(stamp, made_from)
    return page

"""How many real patients a segmentation network needs, from scratch and from simulated hearts.

The plans in examples/transfer: a small U-Net on short-axis slices of real patients, trained on 1,
3, 10 and all of the training half, with as many steps each, tested on the other half. Started at
random, or at weights of examples/cmr_simulated.toml, which has never seen a patient. Dice of a
patient is from voxels summed over slices; intervals are over the tested patients, for one training.

    export RBMED_DATA=/path/to/data
    python -P benchmarks/transfer.py [--folder runs/transfer] [--draws 1]

What is trained, run or stored already is kept. Draws the figure too, docs/figures/transfer.svg.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from robustbench_med.commands.train import train_plan
from robustbench_med.plan import load_plan
from robustbench_med.questions import build_cohort
from robustbench_med.running import run_plan

ROOT = Path(__file__).parents[1]
PLANS = ROOT / "examples" / "transfer"
RESULT = Path(__file__).parent / "results" / "transfer.json"
PICTURE = ROOT / "docs" / "figures" / "transfer.svg"
KINDS = {"scratch": "from scratch", "transferred": "from simulated hearts"}
NUMBERS = (1, 3, 10, 0)
STEPS = 400
STRUCTURES = {"dice_lv": "LV cavity", "dice_myo": "myocardium", "dice_rv": "RV cavity"}
STYLES = {"scratch": ("#555555", "o", "--"), "transferred": ("#0072b2", "s", "-")}


def measured(kind: str, number: int, draw: int, folder: Path) -> dict[str, Any]:
    """Train on so many patients, test on the other half; Dice by structure with intervals."""
    plans = folder / "plans"
    plans.mkdir(parents=True, exist_ok=True)
    shutil.copy(PLANS / "some_patients.py", plans)
    name = f"{kind}-{number or 'all'}-{draw}"
    text = (PLANS / f"{kind}.toml").read_text(encoding="utf-8")
    for key, value in (("train_patients", number), ("draw", draw)):
        text = re.sub(rf"^{key} = \d+$", f"{key} = {value}", text, flags=re.MULTILINE)
    text = text.replace(f"weights/{kind}.", f"weights/{name}.")
    text = text.replace("../weights/cmr_simulated", str(PLANS.parent / "weights" / "cmr_simulated"))
    path = plans / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    cohort = build_cohort(load_plan(path), "train")
    epochs = math.ceil(STEPS / math.ceil(len(cohort) / 8))
    path.write_text(text.replace("epochs = 100", f"epochs = {epochs}"), encoding="utf-8")
    plan = load_plan(path)
    card, _ = train_plan(plan, quiet=True)
    run = run_plan(plan, folder / name)
    table = run.estimates
    rows = table[(table["probe"] == "clean") & (table["group"] == "all")]
    kept = ("value", "low", "high", "patients")
    return {
        "kind": kind, "patients": number or len({c.patient_id for c in cohort.cases}), "draw": draw,
        "slices": len(cohort), "epochs": epochs,
        "training_seconds": round(sum(row["seconds"] for row in card.curve), 1),
        **{row.metric: {k: round(float(getattr(row, k)), 4) for k in kept}
           for row in rows.itertuples() if row.metric in STRUCTURES},
    }  # fmt: skip


def draw_figure(trainings: list[dict[str, Any]]) -> None:
    """Dice against the number of patients: the first draw's line, every draw's interval."""
    mpl.rcParams["svg.hashsalt"] = "transfer"
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(STRUCTURES), sharey=True)
    for axes, (metric, title) in zip(panels, STRUCTURES.items(), strict=True):
        for kind, (colour, marker, line) in STYLES.items():
            own = [t for t in trainings if t["kind"] == kind]
            for one in own:
                held, shift = one[metric], 0.96 if kind == "scratch" else 1.04
                at = one["patients"] * shift
                axes.plot([at, at], [held["low"], held["high"]], color=colour, linewidth=1.2)
                axes.plot(at, held["value"], marker, color=colour, markersize=4)
            first = sorted((t for t in own if t["draw"] == 1), key=lambda t: t["patients"])
            axes.plot([t["patients"] for t in first], [t[metric]["value"] for t in first], line,
                      color=colour, linewidth=1.2, label=KINDS[kind])  # fmt: skip
        axes.set(title=title, xscale="log", xlabel="real patients trained on", ylim=(0, 1))
        axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("Dice")
    panels[0].legend(loc="lower right", fontsize=8)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure what the results lack, print, store and draw it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "transfer")
    options.add_argument("--draws", type=int, default=1)
    asked = options.parse_args()
    if not os.environ.get("RBMED_DATA"):
        raise SystemExit("transfer: set RBMED_DATA to the folder that holds cmr/cases.csv")
    torch.set_num_threads(1)
    sys.path.insert(0, str(PLANS))  # the plans name a module that lies beside them
    stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    trainings = stored.get("trainings", [])
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
               "torch": torch.__version__, "steps": STEPS}  # fmt: skip
    known = {(t["kind"], t["asked"], t["draw"]) for t in trainings}
    for draw in range(1, asked.draws + 1):
        for number in NUMBERS if draw == 1 else NUMBERS[:2]:
            for kind in KINDS:
                if (kind, number, draw) in known:
                    continue
                found = {"asked": number, **measured(kind, number, draw, asked.folder)}
                trainings.append(found)
                print(json.dumps(found), flush=True)
                content = json.dumps({"machine": machine, "trainings": trainings}, indent=1)
                RESULT.write_text(content + "\n", encoding="utf-8")
    draw_figure(trainings)


if __name__ == "__main__":
    main()

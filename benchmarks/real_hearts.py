"""How well every reference segmentation network does on the hearts of real patients.

The plans in examples/hearts: each network in its small size, trained on the training half of the
patients and tested on the other half, both as examples/cmr.toml splits them. Dice of a patient is
from voxels summed over slices; intervals are over the tested patients, for one training. Beside it
the paired difference from the U-Net, patient by patient.

    export RBMED_DATA=/path/to/data
    python -P benchmarks/real_hearts.py [--folder runs/real_hearts]

What is trained, run or stored already is kept, so that it can be stopped and started again.
"""

import argparse
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from robustbench_med.commands.train import train_plan
from robustbench_med.plan import load_plan
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan
from robustbench_med.statistics.bootstrap import draw_patients, generator, replicate
from robustbench_med.statistics.studentised import limits

PLANS = Path(__file__).parents[1] / "examples" / "hearts"
RESULT = Path(__file__).parent / "results" / "real_hearts.json"
STAGES = ("tl_1_autoencoder", "tl_2_predictor", "tl_3_joint")
NETWORKS = ("unet", "fcn8s", "bai_fcn", "acnn_seg_plain", *STAGES, "acnn_seg", "deepmedic")
METRICS = ("dice_lv", "dice_myo", "dice_rv")
REFERENCE = "unet"
COMPARED = [name for name in NETWORKS if name not in (REFERENCE, *STAGES[:2])]


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Train and run the plan: its parameters, settings, curve, and Dice with intervals."""
    plans = folder / "plans"
    plans.mkdir(parents=True, exist_ok=True)
    plan = load_plan(shutil.copy(PLANS / f"{name}.toml", plans))
    card, _ = train_plan(plan, quiet=False)
    table = run_plan(plan, folder / name).estimates
    rows = table[(table["probe"] == "clean") & (table["group"] == "all")].set_index("metric")
    kept = ("value", "low", "high", "patients", "cases", "method")
    settings = ("epochs", "batch_size", "learning_rate")
    return {
        "network": card.network, "parameters": card.parameters,
        **{key: card.training[key] for key in settings},
        "training_seconds": round(sum(row["seconds"] for row in card.curve), 1),
        "loss_by_epoch": [_short(row["loss"]) for row in card.curve],
        "dice": {m: {k: _short(rows.loc[m, k]) for k in kept} for m in METRICS},
    }  # fmt: skip


def by_patient(run: Run) -> pd.DataFrame:
    """Dice of each patient, from voxels summed over slices; a column by metric."""
    records = run.records[run.records["probe"] == "clean"]
    known = records.merge(run.cases[["case_id", "patient_id"]], on="case_id")
    voxels = known.pivot_table(
        index="patient_id", columns="metric", values="value", aggfunc="sum"
    )  # fmt: skip
    shared, predicted, true = (
        voxels[[f"{m}.{part}" for m in METRICS]].set_axis(METRICS, axis=1)
        for part in ("shared", "predicted", "true")
    )
    return 2 * shared / (predicted + true)


def paired(first: Run, second: Run) -> dict[str, dict[str, Any]]:
    """First minus second on the same patients: the mean with a studentised 95% interval."""
    differences = (by_patient(first) - by_patient(second)).dropna()
    count = len(differences)
    gaps = differences.to_numpy()
    table = draw_patients(count, generator(0, "real_hearts"))
    influence = (gaps - gaps.mean(axis=0)) / count
    replicates = replicate(table, influence, np.ones(gaps.shape, dtype=bool))
    mean, error = gaps.mean(axis=0), gaps.std(axis=0, ddof=1) / count**0.5
    low, high = limits(mean, error, replicates)
    return {
        metric: {"difference": _short(mean[place]), "low": _short(low[place]),
                 "high": _short(high[place]), "patients": count}
        for place, metric in enumerate(METRICS)
    }  # fmt: skip


def _short(value: Any) -> Any:  # noqa: ANN401
    """Five digits of a number, and numpy's integers as Python's."""
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, (int, np.integer)) else float(f"{value:.5g}")


def main() -> None:
    """Measure what the results lack, print and store it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "real_hearts")
    asked = options.parse_args()
    if not os.environ.get("RBMED_DATA"):
        raise SystemExit("real_hearts: set RBMED_DATA to the folder that holds cmr/cases.csv")
    torch.set_num_threads(1)
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
               "torch": torch.__version__}  # fmt: skip
    stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    networks, differences = stored.get("networks", {}), stored.get("minus_unet", {})
    for name in (n for n in NETWORKS if n not in networks):
        networks[name] = measured(name, asked.folder)
        if name in COMPARED:
            own, reference = (Run.open(asked.folder / each) for each in (name, REFERENCE))
            differences[name] = paired(own, reference)
        print(json.dumps({name: networks[name], "minus": differences.get(name)}), flush=True)
        content = {"machine": machine, "networks": networks, "minus_unet": differences}
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

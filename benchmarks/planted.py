"""Whether planted gaps are found, and whether their false-alarm twins are cleared.

Claims, on simulated hearts whose truth is known: a network trained with 5 women in 100 measures
women worse, one trained on as many women as men does not; a network that reads subcutaneous fat
is caught by the slice by ancestry, loses the gap once all but the heart is black, and its twins
without the shortcut, or trained on the heart alone, show no gap; a vendor that is held out of
training is ranked worst, and is not once it is trained on.

    python benchmarks/planted.py [--folder runs/planted]

Every line comes from plans that anybody can repeat: examples/planted/*.toml, trained and run by
the commands. What is trained or run already is kept.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robustbench_med.commands.train import train_plan
from robustbench_med.plan import load_plan
from robustbench_med.running import run_plan

PLANS = Path(__file__).parents[1] / "examples" / "planted"
RESULT = Path(__file__).parent / "results" / "planted.json"
SHOWN = ("value", "low", "high", "patients", "difference", "difference_low", "difference_high",
         "p_holm", "detectable")  # fmt: skip


class Claim(NamedTuple):
    """What a plan is expected to show of one group against all others.

    Attributes:
        plan: Name of the file.
        metric: That is looked at.
        group: Attribute and value.
        worse: Whether the group must come out worse, or must not.
    """

    plan: str
    metric: str
    group: tuple[str, str]
    worse: bool


FAT, DCM = ("ancestry", "group 3"), "detection_DCM.sensitivity"
CLAIMS = (
    Claim("women_few", "mass_error", ("sex", "F"), worse=True),
    Claim("women_half", "mass_error", ("sex", "F"), worse=False),
    Claim("fat_shortcut", DCM, FAT, worse=True),
    Claim("fat_even", DCM, FAT, worse=False),
    Claim("fat_cut", DCM, FAT, worse=False),
    Claim("vendor_d_out", "dice_myo", ("vendor", "D"), worse=True),
    Claim("vendor_d_in", "dice_myo", ("vendor", "D"), worse=False),
)
CROPPED = ("fat_shortcut_cut", "correct")


def ran(name: str, folder: Path) -> Any:  # noqa: ANN401 (a run)
    """Train a plan's network if it is to be trained, and run it."""
    if str(PLANS) not in sys.path:  # the plans name a module that lies beside them
        sys.path.insert(0, str(PLANS))
    plan = load_plan(PLANS / f"{name}.toml")
    if plan.train is not None:
        train_plan(plan, quiet=True)
    return run_plan(plan, folder / name)


def measured(claim: Claim, folder: Path) -> dict[str, Any]:
    """The group's row, and whether it is as claimed."""
    started = time.perf_counter()
    run = ran(claim.plan, folder)
    table = run.estimates
    table = table[(table["probe"] == "clean") & (table["metric"] == claim.metric)]
    row = table[(table["subgroup"] == claim.group[0]) & (table["group"] == claim.group[1])].iloc[0]
    gaps = run.gaps
    gaps = gaps[(gaps["probe"] == "clean") & (gaps["metric"] == claim.metric)].iloc[0]
    found = {name: round(float(row[name]), 4) for name in SHOWN}
    behind = row["difference"] < 0 if row["better"] == "higher" else row["difference"] > 0
    said_worse = bool(row["p_holm"] < 0.05 and behind)
    return {
        "metric": claim.metric, "group": " = ".join(claim.group), **found,
        "worst": str(gaps["worst"]), "must_be_worse": claim.worse, "said_worse": said_worse,
        "as_claimed": said_worse == claim.worse,
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def cropped(folder: Path) -> dict[str, Any]:
    """What the network with the shortcut is worth on the heart alone."""
    name, metric = CROPPED
    table = ran(name, folder).estimates
    row = table[(table["group"] == "all") & (table["metric"] == metric)].iloc[0]
    return {"metric": metric, **{k: round(float(row[k]), 4) for k in SHOWN[:4]}}


def main() -> None:
    """Measure every claim, print and store."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "planted")
    folder = options.parse_args().folder
    result: dict[str, Any] = {"torch": torch.__version__, "machine": platform.machine()}
    for claim in CLAIMS:
        result[claim.plan] = measured(claim, folder)
        print(json.dumps({claim.plan: result[claim.plan]}), flush=True)
    result[CROPPED[0]] = cropped(folder)
    print(json.dumps({CROPPED[0]: result[CROPPED[0]]}))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

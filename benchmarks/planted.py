"""Whether planted gaps are found, and whether their false-alarm twins are cleared.

Claims, on simulated hearts whose truth is known: a network trained with 5 women in 100 measures
women worse, one trained on as many women as men does not; a network that reads subcutaneous fat
is caught by the slice by ancestry and by blackening all but the heart, and its twins, trained
without the shortcut or on the heart alone, show no gap; a vendor that is held out of training is
ranked worst, and is not said to be worse once it is trained on.

    python benchmarks/planted.py [--folder runs/planted] [--seeds 1 2 3] [--only TEXT]

Every figure comes from plans that anybody can repeat: examples/planted/*.toml, trained and run by
the code of the commands. Each is repeated with other seeds of training on the same patients. What
is trained, run or stored already is kept, so that it can be stopped and started again.
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
from typing import Any, NamedTuple

import torch

from robustbench_med.commands.train import train_plan
from robustbench_med.plan import load_plan
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan

PLANS = Path(__file__).parents[1] / "examples" / "planted"
RESULT = Path(__file__).parent / "results" / "planted.json"
SHOWN = ("value", "low", "high", "patients", "rest_value", "rest_patients", "difference",
         "difference_low", "difference_high", "p", "p_holm", "detectable")  # fmt: skip
OVERALL = ("value", "low", "high", "patients")
LEVEL = 0.05


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

    @property
    def key(self) -> str:
        """Name in the results."""
        return f"{self.plan} {self.metric} {self.group[1]}"


FAT = ("detection_DCM.sensitivity", ("ancestry", "group 3"))
LEAN = ("detection_DCM.specificity", ("ancestry", "group 1"))
CLAIMS = (
    Claim("women_few", "mass_error", ("sex", "F"), worse=True),
    Claim("women_half", "mass_error", ("sex", "F"), worse=False),
    Claim("fat_shortcut", *FAT, worse=True),
    Claim("fat_shortcut", *LEAN, worse=True),
    Claim("fat_shortcut_cut", *FAT, worse=False),
    Claim("fat_shortcut_cut", *LEAN, worse=False),
    Claim("fat_cut", *FAT, worse=False),
    Claim("fat_cut", *LEAN, worse=False),
    Claim("fat_even", *FAT, worse=False),
    Claim("fat_even", *LEAN, worse=False),
    Claim("vendor_d_out", "dice_myo", ("vendor", "D"), worse=True),
    Claim("vendor_d_in", "dice_myo", ("vendor", "D"), worse=False),
    Claim("vendor_a_out", "dice_myo", ("vendor", "A"), worse=True),
    Claim("vendor_a_in", "dice_myo", ("vendor", "A"), worse=False),
)


def placed(plan: str, seed: int, folder: Path) -> Path:
    """Copy a plan, with a seed of its own, and what lies beside it; return the copy."""
    plans = folder / "plans"
    plans.mkdir(parents=True, exist_ok=True)
    shutil.copy(PLANS / "truths.py", plans)
    text = (PLANS / f"{plan}.toml").read_text(encoding="utf-8")
    text = text.replace(f'name = "{plan}"', f'name = "{plan}-{seed}"', 1)
    text = re.sub(r"^seed = 1$", f"seed = {seed}", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"weights/(\w+)\.", rf"weights/\1-{seed}.", text)
    copy = plans / f"{plan}-{seed}.toml"
    copy.write_text(text, encoding="utf-8")
    return copy


def ran(plan: str, seed: int, folder: Path) -> tuple[Run, float]:
    """Train a plan's network if it is to be trained, and run it.

    Returns:
        The run, and the seconds its training took, whenever it was; 0 where it trains nothing.
    """
    if str(PLANS) not in sys.path:  # the plans name a module that lies beside them
        sys.path.insert(0, str(PLANS))
    loaded = load_plan(placed(plan, seed, folder))
    spent = 0.0
    if loaded.train is not None:
        card, _ = train_plan(loaded, quiet=True)
        spent = sum(row["seconds"] for row in card.curve)
    return run_plan(loaded, folder / loaded.name), spent


def measured(claim: Claim, folder: Path, seed: int = 1) -> dict[str, Any]:
    """The group's row, and whether it is as claimed."""
    run, training = ran(claim.plan, seed, folder)
    table = _of(run.estimates, claim.metric)
    row = table[(table["subgroup"] == claim.group[0]) & (table["group"] == claim.group[1])].iloc[0]
    everyone = table[table["group"] == "all"].iloc[0]
    gap = _of(run.gaps, claim.metric).iloc[0]
    behind = row["difference"] < 0 if row["better"] == "higher" else row["difference"] > 0
    said_worse = bool(row["p_holm"] < LEVEL and behind)
    ranked_worst = str(gap["worst"]) == claim.group[1]
    right = said_worse and ranked_worst if claim.worse else not said_worse
    return {
        "seed": seed, **{name: _short(row[name]) for name in SHOWN},
        "all": {name: _short(everyone[name]) for name in OVERALL},
        "worst": str(gap["worst"]), "worst_corrected": _short(gap["worst_corrected"]),
        "p_any": _short(gap["p_any"]), "said_worse": said_worse,
        "as_claimed": right,
        "training_seconds": round(training, 1), "seconds": round(run.manifest["seconds"], 1),
    }  # fmt: skip


def _of(table: Any, metric: str) -> Any:  # noqa: ANN401 (a data frame)
    return table[(table["probe"] == "clean") & (table["metric"] == metric)]


def _short(value: float) -> float | None:
    return float(f"{float(value):.4g}") if math.isfinite(value) else None


def stored() -> dict[str, Any]:
    """What was measured so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}


def main() -> None:
    """Measure every claim that is not stored, print and store it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "planted")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--only", default="", help="claims whose name has this in it")
    asked = options.parse_args()
    torch.set_num_threads(1)
    result = {"machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                          "torch": torch.__version__}, "claims": {}} | stored()  # fmt: skip
    for seed in asked.seeds:
        for claim in (claim for claim in CLAIMS if asked.only in claim.key):
            entry = result["claims"].setdefault(
                claim.key, {**claim._asdict(), "group": list(claim.group), "trainings": []}
            )
            if seed in [found["seed"] for found in entry["trainings"]]:
                continue
            entry["trainings"].append(measured(claim, asked.folder, seed))
            print(json.dumps({claim.key: entry["trainings"][-1]}), flush=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

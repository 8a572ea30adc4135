"""How few lines of k-space an ejection fraction needs: four systems on simulated whole patients.

The plans in examples/kspace: the serial pipeline (reconstruct, then segment), the same pipeline
fine-tuned end to end for the ejection fraction, SynNet and LI-Net, each trained once on the same
patients over 1 to 32 of 64 lines per frame, and each tested on the same whole patients with each
number of lines. Intervals are over the tested patients, for one training.

    python -P benchmarks/kspace_lines.py [--folder runs/kspace_lines] [--only TEXT] [--tiny]

What is trained, run or stored already is kept, so that it can be stopped and started again. Draws
docs/figures/kspace_lines.svg of what is stored. `--tiny` runs everything on a few small patients,
to see that it works, and leaves its results in its folder.
"""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from robustbench_med.commands.train import train_plan
from robustbench_med.plan import Plan, parse_plan, read_toml
from robustbench_med.questions import build_cohort
from robustbench_med.reports.drawing import COLOURS, GREY, MARKERS, draw
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan

ROOT = Path(__file__).parents[1]
PLANS = ROOT / "examples" / "kspace"
LINES = (1, 2, 4, 8, 16, 32)
PARTS = {
    "reconstruction": {"use": "deep_cascade", "weights": "../weights/kspace_reconstruction"},
    "segmentation": {"use": "unet", "weights": "../weights/kspace_segmentation"},
}
METRICS = ("lvef_error", "lvef", "dice_lv", "dice_myo", "dice_rv", "diagnosis")
SHOWN = {"lvef_error": "Error of the LV ejection fraction, points", "dice_lv": "Dice of the LV"}
KEPT = ("value", "low", "high", "patients")
TINY = {"patients": {"train": 16, "test": 24}, "size": 32, "pixel_mm": 6.0}


class System(NamedTuple):
    """One line of the figure.

    Attributes:
        title: What the figure calls it.
        trainings: Plans that are trained for it, in order.
        model: Model table of its tests.
    """

    title: str
    trainings: tuple[str, ...]
    model: Mapping[str, Any]


SYSTEMS = {
    "serial": System(
        "serial pipeline", ("reconstruction", "segmentation"), {"use": "pipeline", **PARTS}
    ),
    "tuned": System(
        "pipeline, fine-tuned",
        ("reconstruction", "segmentation", "tuned"),
        {"use": "pipeline", "weights": "../weights/kspace_tuned", **PARTS},
    ),
    "synnet": System(
        "SynNet", ("synnet",), {"use": "synnet", "weights": "../weights/kspace_synnet"}
    ),
    "linet": System(
        "LI-Net",
        ("linet_labels", "linet_codes"),
        {"use": "linet", "weights": "../weights/kspace_linet_codes"},
    ),
}


class Place(NamedTuple):
    """Where things are kept, and whether they are the real ones."""

    folder: Path
    tiny: bool

    @property
    def result(self) -> Path:
        """The file of results."""
        kept = Path(__file__).parent / "results" / "kspace_lines.json"
        return self.folder / "kspace_lines.json" if self.tiny else kept

    @property
    def picture(self) -> Path:
        """The figure."""
        kept = ROOT / "docs" / "figures" / "kspace_lines.svg"
        return self.folder / "kspace_lines.svg" if self.tiny else kept

    def plan(self, file: str, /, **change: Any) -> Plan:  # noqa: ANN401 (tables of a plan)
        """Read a plan as if it lay in the folder, so that its weights do; change some tables."""
        raw = read_toml(PLANS / f"{file}.toml")
        raw = {**raw, **change, "cohort": {**raw["cohort"], **change.get("cohort", {})}}
        if "train" in raw:
            raw["train"] = {**raw["train"], "workers": 0}
        if self.tiny:
            raw["cohort"] = {**raw["cohort"], **TINY}
            if "train" in raw:
                raw["train"] = {**raw["train"], "epochs": 6}
        return parse_plan(raw, self.folder / "plans" / f"{file}.toml")


def located(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model table with the ending of each file of weights."""
    return {
        key: located(value)
        if isinstance(value, Mapping)
        else f"{value}.safetensors"
        if key == "weights"
        else value
        for key, value in model.items()
    }


def train_all(place: Place, only: str, result: dict[str, Any]) -> None:
    """Train every plan that a chosen system needs, unless it is trained."""
    needed = [name for key, system in SYSTEMS.items() if only in key for name in system.trainings]
    for name in dict.fromkeys(needed):
        card, fresh = train_plan(place.plan(name), quiet=True)
        result["trainings"][name] = {
            "parameters": card.parameters,
            "epochs": len(card.curve),
            "seconds": round(sum(row["seconds"] for row in card.curve), 1),
            "loss": _short(card.curve[-1]["loss"]),
            "weights": card.weights_sha256[:16],
        }
        store(place, result)
        if fresh:
            print(json.dumps({name: result["trainings"][name]}), flush=True)


def measured(place: Place, system: str, lines: int) -> tuple[dict[str, Any], Run]:
    """Test a system with so many lines: every metric with its interval."""
    name = f"{system}_{lines}"
    model = located(SYSTEMS[system].model)
    run = run_plan(
        place.plan("patients", name=name, model=model, cohort={"lines": lines}),
        place.folder / name,
    )
    table = run.estimates
    rows = table[(table["probe"] == "clean") & (table["group"] == "all")]
    found = {
        row.metric: {key: _short(getattr(row, key)) for key in KEPT}
        for row in rows.itertuples()
        if row.metric in METRICS
    }
    return {"tested": len(run.cases), **found}, run


def errors_of(run: Run) -> dict[str, float]:
    """Error of the ejection fraction by patient."""
    records = run.records
    own = records[(records["metric"] == "lvef_error") & (records["probe"] == "clean")]
    return dict(zip(own["case_id"], own["value"].astype(float), strict=True))


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float | None]:
    """Mean difference over the same patients, first minus second, with Student's interval."""
    both = sorted(first.keys() & second.keys())
    gaps = np.array([first[case] - second[case] for case in both])
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 2:
        return {**dict.fromkeys(KEPT), "patients": len(gaps)}
    mean, deviation = float(gaps.mean()), float(gaps.std(ddof=1))
    reach = float(stats.t.ppf(0.975, len(gaps) - 1)) * deviation / math.sqrt(len(gaps))
    told = {"value": mean, "low": mean - reach, "high": mean + reach}
    return {**{key: _short(value) for key, value in told.items()}, "patients": len(gaps)}


def guess(place: Place) -> dict[str, float | None]:
    """Error of who looks at nothing: the mean ejection fraction of the training patients."""
    plan, found = place.plan("patients"), {}
    for split in ("train", "test"):
        cohort = build_cohort(plan, split)
        told = [cohort.summary(i).attributes["lvef_percent"] for i in range(len(cohort))]
        found[split] = np.array(told, dtype=float)
    gaps = np.abs(found["test"] - found["train"].mean())
    return {"value": _short(gaps.mean()), "patients": len(gaps)}


def paint(figure: Figure, result: Mapping[str, Any]) -> None:
    """Both panels: a line with a band for each system.

    A marker is hollow where a measure was undefined for some of the patients tested.
    """
    panels = figure.subplots(1, len(SHOWN))
    for axes, (metric, title) in zip(panels, SHOWN.items(), strict=True):
        for index, (key, system) in enumerate(SYSTEMS.items()):
            _line(axes, result["results"], key, metric, system.title, index)
        axes.set(title=title, xscale="log", xlabel="lines of k-space per frame, of 64")
        axes.set_xticks(LINES, [str(n) for n in LINES])
        axes.minorticks_off()
        axes.grid(color="#e4e4e4", linewidth=0.6)
    errors, dice = panels
    errors.set_ylim(bottom=0)
    dice.set_ylim(top=1)
    if result.get("guess"):
        level = result["guess"]["value"]
        errors.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
        errors.annotate("the training patients' mean", (LINES[-1], level), xytext=(0, -3),
                        textcoords="offset points", ha="right", va="top", color=GREY,
                        fontsize=7.5)  # fmt: skip
    dice.legend(loc="lower right")


def _line(
    axes: Axes, results: Mapping[str, Any], key: str, metric: str, title: str, index: int
) -> None:
    told = [(n, results[f"{key} {n}"]) for n in LINES if f"{key} {n}" in results]
    told = [(n, each["tested"], each[metric]) for n, each in told]
    known = [(n, one["value"], tested - one["patients"]) for n, tested, one in told]
    known = [point for point in known if point[1] is not None]
    colour = COLOURS[index]
    axes.plot([n for n, *_ in known], [value for _, value, _ in known], color=colour,
              marker=MARKERS[index], markersize=4, linewidth=1.4, label=title)  # fmt: skip
    lacking = [(n, value) for n, value, missing in known if missing]
    axes.plot(*zip(*lacking, strict=True) if lacking else ([], []), MARKERS[index], color=colour,
              markersize=4, markerfacecolor="white")  # fmt: skip
    bands = [(n, one["low"], one["high"]) for n, _, one in told if one["low"] is not None]
    axes.fill_between([n for n, *_ in bands], [low for _, low, _ in bands],
                      [high for *_, high in bands], color=colour, alpha=0.15,
                      linewidth=0)  # fmt: skip


def store(place: Place, result: Mapping[str, Any]) -> None:
    """Write what is known so far."""
    place.result.parent.mkdir(parents=True, exist_ok=True)
    place.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _short(value: float) -> float | None:
    return float(f"{float(value):.4g}") if math.isfinite(value) else None


def main() -> None:
    """Train and test what the results lack, print, store and draw it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--only", default="", help="systems whose name has this in it")
    options.add_argument("--tiny", action="store_true")
    asked = options.parse_args()
    folder = asked.folder or Path("runs") / ("kspace_lines_tiny" if asked.tiny else "kspace_lines")
    place = Place(folder.resolve(), asked.tiny)
    torch.set_num_threads(1)
    sys.path.insert(0, str(PLANS))  # the plans name a module that lies beside them
    stored = json.loads(place.result.read_text("utf-8")) if place.result.is_file() else {}
    result = {"machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                          "torch": torch.__version__}, "trainings": {}, "results": {},
              "against_serial": {}} | stored  # fmt: skip
    train_all(place, asked.only, result)
    result["guess"] = guess(place)
    for lines in reversed(LINES):
        errors = {}
        for system in (key for key in SYSTEMS if asked.only in key):
            found, run = measured(place, system, lines)
            errors[system] = errors_of(run)
            if result["results"].get(f"{system} {lines}") != found:
                result["results"][f"{system} {lines}"] = found
                print(json.dumps({f"{system} {lines}": found}), flush=True)
            if system != "serial" and "serial" in errors:
                gap = paired(errors[system], errors["serial"])
                result["against_serial"][f"{system} {lines}"] = gap
            store(place, result)
    place.picture.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw("kspace-lines", 9.0, 3.4, lambda figure: paint(figure, result))
    place.picture.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + drawn + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""How well every reference system works on simulated patients, and what it costs.

Each system is a plan in examples/systems: trained and run by the code of the commands, its quality
with intervals over patients from the run's own table. Beside it: parameters, floating-point
operations of a forward and a backward pass of one case (matrix products and convolutions; Fourier
transforms and element-wise work are not counted), cases a second and peak memory on one thread.
For reconstruction, at accelerations 4 and 8, the paired differences between systems.

    python benchmarks/networks.py [--folder runs/systems] [--only TEXT] [--full]

With --full the networks have the papers' sizes, and are trained and timed on a CUDA device, as
`make gpu` does; results are then in networks-DEVICE.json. What is trained, run or stored already is
kept, so that it can be stopped and started again.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from robustbench_med.cases import Batch, Cohort
from robustbench_med.commands.train import train_plan
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model, pick_device
from robustbench_med.plan import Plan, load_plan
from robustbench_med.questions import build_cohort
from robustbench_med.runfolder import Run
from robustbench_med.running import run_plan
from robustbench_med.statistics.bootstrap import draw_patients, generator, replicate
from robustbench_med.statistics.studentised import limits

PLANS = Path(__file__).parents[1] / "examples" / "systems"
RESULTS = Path(__file__).parent / "results"
BATCH, REPEATS = 8, 5


class System(NamedTuple):
    """A plan, and what is changed in it.

    Attributes:
        plan: Name of the file.
        suffix: Of the name, where something is changed.
        changed: Text by text that takes its place.
    """

    plan: str
    suffix: str = ""
    changed: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Key in the results."""
        return self.plan + self.suffix


AT_8 = (("acceleration = 4", "acceleration = 8"), ("centre_lines = 6", "centre_lines = 4"))
RECONSTRUCTIONS = ("zero_filled", "total_variation", "wavelet_l1", "deep_cascade")
OTHERS = (
    "linear", "in_plane_cubic", "spline", "espcn",
    "unet", "fcn8s", "bai_fcn", "tl_1_autoencoder", "tl_2_predictor", "tl_3_joint",
    "acnn_seg_plain", "acnn_seg", "acnn_sr_plain", "acnn_sr", "lenet", "resnet", "mlp", "rules",
    "deepmedic", "torso_unet",
)  # fmt: skip
SYSTEMS = (
    *(System(name) for name in RECONSTRUCTIONS),
    *(System(name, "@8", AT_8) for name in RECONSTRUCTIONS),
    *(System(name) for name in OTHERS),
)
PAIRS = (
    ("deep_cascade", "total_variation"), ("deep_cascade", "wavelet_l1"),
    ("total_variation", "zero_filled"), ("wavelet_l1", "zero_filled"),
)  # fmt: skip


FULL = (('preset = "small"', 'preset = "full"'), ("name = ", 'device = "cuda"\nname = '))


def in_full(systems: tuple[System, ...]) -> tuple[System, ...]:
    """Those with a paper's size, at it."""
    sized = [s for s in systems if FULL[0][0] in (PLANS / f"{s.plan}.toml").read_text("utf-8")]
    return tuple(System(s.plan, f"{s.suffix}-full", s.changed + FULL) for s in sized)


def placed(system: System, folder: Path) -> Plan:
    """Copy the plan with its changes to where weights and runs are kept, and load it."""
    plans = folder / "plans"
    plans.mkdir(parents=True, exist_ok=True)
    if str(PLANS) not in sys.path:  # some plans name a module that lies beside them
        sys.path.insert(0, str(PLANS))
    text = (PLANS / f"{system.plan}.toml").read_text(encoding="utf-8")
    for old, new in system.changed:
        if old not in text:
            raise SystemExit(f"{system.plan}.toml: expected {old!r} in it")
        text = text.replace(old, new, 1)
    if system.suffix:
        text = re.sub(r"weights/(\w+)\.", rf"weights/\1{system.suffix}.", text)
    path = plans / f"{system.name}.toml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def ran(plan: Plan, system: System, folder: Path) -> tuple[Run, float | None]:
    """Train the plan's network if it has one to train, and run it; with seconds of training."""
    seconds = None
    if plan.train is not None:
        card, _ = train_plan(plan, quiet=False)
        seconds = round(sum(row["seconds"] for row in card.curve), 1)
    return run_plan(plan, folder / system.name.replace("@", "-at-")), seconds


def quality(run: Run) -> dict[str, Any]:
    """Clean values of every metric that the plan names, all patients."""
    table = run.estimates
    rows = table[(table["probe"] == "clean") & (table["group"] == "all")]
    kept = ("value", "low", "high", "patients", "method")
    return {
        row.metric: {name: _short(getattr(row, name)) for name in kept}
        for row in rows.itertuples()
        if row.metric in run.manifest["metrics"]
    }


def _short(value: Any) -> Any:  # noqa: ANN401
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _asked(plan: Plan) -> tuple[TorchModel, Cohort]:
    cohort = build_cohort(plan)
    model = load_model(plan.model, cohort=cohort, device=pick_device(plan.device),
                       folder=plan.folder)  # fmt: skip
    if not isinstance(model, TorchModel):
        raise SystemExit(f"{plan.name}: expected a network, got {type(model).__name__}")
    return model, cohort


def operations(model: TorchModel, batch: Batch) -> dict[str, int]:
    """Floating-point operations of a batch of one case."""
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(batch.image, batch.context)
    image = batch.image.clone().requires_grad_()
    with FlopCounterMode(display=False) as both:
        model(image, batch.context).abs().sum().backward()
    return {"forward": forward.get_total_flops(), "both": both.get_total_flops()}


def cost(system: System, folder: Path) -> dict[str, Any]:
    """Parameters, operations, speed and memory, in this process: it should be a fresh one."""
    plan = placed(system, folder)
    device = torch.device(pick_device(plan.device))
    torch.set_num_threads(1)
    model, cohort = _asked(plan)
    batch = next(iter(cohort.batches(BATCH))).to(device)
    before = _peak(device)
    spent = []
    for _ in range(REPEATS + 1):
        started = _clock(device)
        with torch.no_grad():
            model(batch.image, batch.context)
        spent.append(_clock(device) - started)
    image = batch.image.clone().requires_grad_()
    model(image, batch.context).abs().sum().backward()
    after = _peak(device)
    return {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "flops": operations(model, next(iter(cohort.batches(1))).to(device)),
        "cases_per_second": round(len(batch) / float(np.median(spent[1:])), 2),
        "peak_mib": round(after), "added_mib": round(after - before), "batch": len(batch),
    }  # fmt: skip


def _peak(device: torch.device) -> float:
    """Peak memory so far in MiB: of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, which other programs disturb less; else of the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def cost_in_a_fresh_process(system: System, folder: Path) -> dict[str, Any]:
    """As `cost`: the peak memory of a process never falls."""
    command = [sys.executable, "-P", __file__, "--folder", str(folder), "--cost-of", system.name]
    command += ["--full"] if system.suffix.endswith("-full") else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def paired(first: Run, second: Run) -> dict[str, dict[str, Any]]:
    """First minus second, patient by patient, by metric: the mean with a studentised interval."""
    values = [_by_patient(run) for run in (first, second)]
    found = {}
    for metric in values[0]:
        both = values[0][metric].to_frame("first").join(values[1][metric].rename("second"))
        gaps = (both["first"] - both["second"]).dropna().to_numpy()
        influence = ((gaps - gaps.mean()) / len(gaps))[:, None]
        error = np.array([gaps.std(ddof=1) / len(gaps) ** 0.5])
        table = draw_patients(len(gaps), generator(0, metric))
        replicates = replicate(table, influence, np.ones((len(gaps), 1), dtype=bool))
        low, high = limits(np.array([gaps.mean()]), error, replicates)
        found[metric] = {"difference": _short(float(gaps.mean())), "low": _short(float(low[0])),
                         "high": _short(float(high[0])), "patients": len(gaps)}  # fmt: skip
    return found


def _by_patient(run: Run) -> dict[str, Any]:
    """Mean of each patient's cases, by metric."""
    records = run.records[run.records["probe"] == "clean"]
    known = records.merge(run.cases[["case_id", "patient_id"]], on="case_id")
    named = known[known["metric"].isin(run.manifest["metrics"])]
    return {m: g.groupby("patient_id")["value"].mean() for m, g in named.groupby("metric")}


def main() -> None:
    """Measure every system that is not stored, print and store it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "systems")
    options.add_argument("--only", default="", help="systems whose name has this in it")
    options.add_argument("--cost-of", default="", help=argparse.SUPPRESS)
    options.add_argument("--full", action="store_true", help="the papers' sizes, on CUDA")
    asked = options.parse_args()
    if asked.full and not torch.cuda.is_available():
        raise SystemExit("networks: --full needs a CUDA device, and torch sees none here")
    systems = in_full(SYSTEMS) if asked.full else SYSTEMS
    by_name = {system.name: system for system in systems}
    if asked.cost_of:
        print(json.dumps(cost(by_name[asked.cost_of], asked.folder)))
        return
    path = _result(full=asked.full)
    if not asked.full:
        torch.set_num_threads(1)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    result = {"systems": {}, "pairs": {}} | stored
    for system in (s for s in systems if asked.only in s.name and s.name not in result["systems"]):
        plan = placed(system, asked.folder)
        run, seconds = ran(plan, system, asked.folder)
        result["systems"][system.name] = {
            "task": run.manifest["task"]["kind"], "quality": quality(run),
            **cost_in_a_fresh_process(system, asked.folder), "training_seconds": seconds,
        }  # fmt: skip
        print(json.dumps({system.name: result["systems"][system.name]}), flush=True)
        _store(result, path, systems)
    for suffix in ("-full", "@8-full") if asked.full else ("", "@8"):
        for pair in PAIRS:
            key = " minus ".join(f"{name}{suffix}" for name in pair)
            if all(f"{name}{suffix}" in result["systems"] for name in pair):
                runs = [Run.open(asked.folder / f"{name}{suffix.replace('@', '-at-')}")
                        for name in pair]  # fmt: skip
                result["pairs"][key] = paired(*runs)
                print(json.dumps({key: result["pairs"][key]}), flush=True)
    _store(result, path, systems)


def _result(*, full: bool) -> Path:
    if not full:
        return RESULTS / "networks.json"
    device = re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower()
    return RESULTS / f"networks-{device}.json"


def _store(result: dict[str, Any], path: Path, systems: tuple[System, ...]) -> None:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "cuda": cuda,
               "torch": torch.__version__}  # fmt: skip
    ordered = {s.name: result["systems"][s.name] for s in systems if s.name in result["systems"]}
    content = {"machine": machine, "systems": ordered, "pairs": result["pairs"]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How well every reference system works on simulated patients, and what it costs.

Each system is a plan in examples/systems: trained and run by the code of the commands, its quality
with intervals over patients from the run's own table. Beside it: parameters, floating-point
operations of a forward and a backward pass of one case (matrix products and convolutions; Fourier
transforms and element-wise work are not counted), cases a second and peak memory on one thread.
Reconstruction of single images at accelerations 4 and 8. Paired differences between systems. Which
systems and which pairs: networks.toml, beside this file.

    python benchmarks/networks.py [--folder runs/systems] [--only TEXT] [--costs] [--full]

With --full the networks have the papers' sizes, and are trained and timed on a CUDA device, as
`make gpu` does; results are then in networks-DEVICE.json. What is trained, run or stored already is
kept, so that it can be stopped and started again; --costs measures again what the stored ones cost.
"""

import argparse
import json
import math
import os
import platform
import re
import runpy
import subprocess
import sys
import time
import tomllib
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
    """Name of a plan; and where it is changed, a suffix and text by text that takes its place."""

    plan: str
    suffix: str = ""
    changed: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Key in the results."""
        return self.plan + self.suffix


LISTED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
AT_8 = (("acceleration = 4", "acceleration = 8"), ("centre_lines = 6", "centre_lines = 4"))
SYSTEMS = (
    *(System(name) for name in LISTED["reconstructions"]),
    *(System(name, "@8", AT_8) for name in LISTED["reconstructions"]),
    *(System(name) for name in LISTED["others"]),
)
PAIRS = tuple((first, second) for first, second in LISTED["pairs"])
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
    """Train or fit the plan's network if there is one to, and run it; with seconds of training."""
    seconds = None
    if plan.train is not None:
        card, _ = train_plan(plan, quiet=False)
        seconds = round(sum(row["seconds"] for row in card.curve), 1)
    elif plan.model["use"] == "forest":
        started = time.perf_counter()
        runpy.run_path(str(PLANS / "fit_forest.py"))["fit"](plan)
        seconds = round(time.perf_counter() - started, 1)
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
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _asked(plan: Plan) -> tuple[TorchModel, Cohort]:
    cohort = build_cohort(plan)
    model = load_model(plan.model, cohort=cohort, device=pick_device(plan.device),
                       folder=plan.folder)  # fmt: skip
    if not isinstance(model, TorchModel):
        raise SystemExit(f"{plan.name}: expected a network, got {type(model).__name__}")
    return model, cohort


def operations(model: TorchModel, batch: Batch) -> dict[str, int | None]:
    """Floating-point operations of a batch of one case; `both` is None without a gradient."""
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(batch.image, batch.context)
    with FlopCounterMode(display=False) as both:
        went_back = _forward_and_back(model, batch)
    return {"forward": forward.get_total_flops(),
            "both": both.get_total_flops() if went_back else None}  # fmt: skip


def _forward_and_back(model: TorchModel, batch: Batch) -> bool:
    """Answer, and go back to the image where the answer has a gradient; tell whether it has."""
    answer = model(batch.image.clone().requires_grad_(), batch.context)
    if answer.requires_grad:
        answer.abs().sum().backward()
    return answer.requires_grad


def cost(system: System, folder: Path) -> dict[str, Any]:
    """Parameters, operations, speed and memory, in this process: it should be a fresh one."""
    plan = placed(system, folder)
    device = torch.device(pick_device(plan.device))
    torch.set_num_threads(1)
    model, cohort = _asked(plan)
    batch = next(iter(cohort.batches(BATCH))).to(device)
    before, spent = _peak(device), []
    for _ in range(REPEATS + 1):
        started = _clock(device)
        with torch.no_grad():
            model(batch.image, batch.context)
        spent.append(_clock(device) - started)
    _forward_and_back(model, batch)
    after = _peak(device)
    return {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "flops": operations(model, next(iter(cohort.batches(1))).to(device)),
        "cases_per_second": round(len(batch) / float(np.median(spent[1:])), 2),
        "peak_mib": round(after), "added_mib": round(after - before), "batch": len(batch),
    }  # fmt: skip


def _peak(device: torch.device) -> float:
    """Peak memory so far in MiB: of the device, or of this process on a CPU.

    Linux has a line for it. Its `ru_maxrss` would begin at what the parent had when it started us.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


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


def all_pairs(known: set[str], folder: Path, *, full: bool) -> dict[str, dict[str, Any]]:
    """The paired differences of all pairs that are measured."""
    found = {}
    for suffix in ("-full", "@8-full") if full else ("", "@8"):
        for pair in PAIRS:
            names = [f"{name}{suffix}" for name in pair]
            if known.issuperset(names):
                runs = [Run.open(folder / name.replace("@", "-at-")) for name in names]
                found[" minus ".join(names)] = paired(*runs)
    return found


def main() -> None:
    """Measure every system that is not stored, print and store it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs") / "systems")
    options.add_argument("--only", default="", help="systems whose name has this in it")
    options.add_argument("--costs", action="store_true", help="again, of systems that are stored")
    options.add_argument("--cost-of", default="", help=argparse.SUPPRESS)
    options.add_argument("--full", action="store_true", help="the papers' sizes, on CUDA")
    asked = options.parse_args()
    if asked.full and not torch.cuda.is_available():
        raise SystemExit("networks: --full needs a CUDA device, and torch sees none here")
    systems = in_full(SYSTEMS) if asked.full else SYSTEMS
    if asked.cost_of:
        print(json.dumps(cost({s.name: s for s in systems}[asked.cost_of], asked.folder)))
        return
    path = _result(full=asked.full)
    if not asked.full:
        torch.set_num_threads(1)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    result = {"systems": {}, "pairs": {}} | stored
    for system in (s for s in systems if asked.only in s.name):
        held = result["systems"].get(system.name)
        if held is None:
            run, seconds = ran(placed(system, asked.folder), system, asked.folder)
            result["systems"][system.name] = {
                "task": run.manifest["task"]["kind"], "quality": quality(run),
                **cost_in_a_fresh_process(system, asked.folder), "training_seconds": seconds,
            }  # fmt: skip
        elif asked.costs:
            held |= cost_in_a_fresh_process(system, asked.folder)
        else:
            continue
        print(json.dumps({system.name: result["systems"][system.name]}), flush=True)
        _store(result, path, systems)
    result["pairs"] = all_pairs(set(result["systems"]), asked.folder, full=asked.full)
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

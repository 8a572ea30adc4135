"""How fast simulated cases are made, and what they cost in memory.

Claims: one core makes at least 100 slices for segmentation a second at 96 x 96, and 20 of k-space
with 8 coils; peak memory does not grow with the number of patients. Cases are asked for in random
order and none is kept. Rates are by the wall's clock and by the time that the processor spent,
which other programs disturb less.

    python benchmarks/cohort.py [--quick]
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import robustbench_med as rb

PATIENTS = 60
ASKED = {
    "segmentation": ({"task": "segmentation"}, 200),
    "reconstruction_1_coil": ({"task": "reconstruction"}, 200),
    "reconstruction_8_coils": ({"task": "reconstruction", "coils": 8}, 120),
    "super_resolution": ({"task": "super_resolution"}, 4),
    "classification": ({"task": "classification"}, 30),
    "patient": ({"task": "patient"}, 10),
}
GOALS = {"segmentation": 100, "reconstruction_8_coils": 20}
MEMORY_MB, MEMORY_CASES = 16, 500
RESULT = Path(__file__).parent / "results" / "cohort.json"


def cohort(**settings: object) -> rb.Cohort:
    """A simulated cohort."""
    return rb.build("cohorts", "synthetic_cine", **settings)


def rates(settings: dict[str, object], count: int, repeats: int) -> dict[str, object]:
    """Cases a second: medians over `repeats` groups of `count` cases, after a group to warm up."""
    cases = cohort(patients=PATIENTS, memory_mb=0, **settings).cases
    order = random.Random(0).sample(range(len(cases)), len(cases))  # noqa: S311
    wall, processor = [], []
    for repeat in range(repeats + 1):
        group = [order[(repeat * count + i) % len(order)] for i in range(count)]
        started, spent = time.perf_counter(), time.process_time()
        for index in group:
            cases[index]
        if repeat:
            wall.append(count / (time.perf_counter() - started))
            processor.append(count / (time.process_time() - spent))
    return {
        "cases": count, "repeats": repeats,
        "per_second": round(np.median(wall), 1), "fastest": round(max(wall), 1),
        "slowest": round(min(wall), 1),
        "per_processor_second": round(np.median(processor), 1),
    }  # fmt: skip


def memory(patients: int) -> dict[str, float]:
    """Peak of a process that asks for random cases of `patients`, and its seconds to begin."""
    command = [sys.executable, __file__, "--memory-of", str(patients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def ask_in_this_process(patients: int) -> None:
    """Ask for random cases and print this process's peak memory in MiB."""
    torch.set_num_threads(1)
    spent = time.process_time()
    cases = cohort(patients=patients, memory_mb=MEMORY_MB).cases
    began = time.process_time() - spent
    for index in random.Random(0).sample(range(len(cases)), MEMORY_CASES):  # noqa: S311
        cases[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": round(peak, 1), "begin_s": round(began, 2)}))


def main() -> None:
    """Measure, print, write as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and repeats")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        ask_in_this_process(options.memory_of)
        return
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    share, repeats = (4, 3) if options.quick else (1, 7)
    speed = {
        name: rates(settings, max(1, count // share), repeats)
        for name, (settings, count) in ASKED.items()
    }
    sizes = (50, 500) if options.quick else (50, 500, 5000)
    result = {
        "size": 96, "goals_per_second": GOALS, "speed": speed,
        "memory": {"cases_asked": MEMORY_CASES, "memory_mb": MEMORY_MB,
                   "patients": {str(size): memory(size) for size in sizes}},
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                    "torch": torch.__version__, "load_before": round(load, 2)},
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

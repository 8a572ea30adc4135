"""PGD-20 through the engine against a bare loop on the same model; memory over cohort size.

Claims: the engine (cells, streams, projection, re-scoring, storing) costs at most 10 % over the
bare loop, and its peak memory does not grow with the number of cases.

    python benchmarks/engine_overhead.py [--quick]
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.cases import Case, summarise
from robustbench_med.engine.cells import Inquiry, cells
from robustbench_med.engine.local import Effort, compute

STEPS, EPS, BATCH = 20, 0.02, 32
TASK = rb.Task("classification", ("a", "b", "c", "d"))
RESULT = Path(__file__).parent / "results" / "engine_overhead.json"


@dataclass(frozen=True)
class Noise(Sequence[Case]):
    """Cases drawn when asked for, so that only the harness could hold them."""

    total: int
    side: int

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: int) -> Case:  # type: ignore[override]
        if index >= self.total:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(1, self.side, self.side, generator=generator)
        return Case(f"c{index:05}", f"p{index // 4:05}", image, torch.tensor(index % 4))


def network(side: int, width: int) -> nn.Module:
    """Three convolutions and a linear head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(width * (side // 4) ** 2, 4),
    ).eval()  # fmt: skip


def bare(net: nn.Module, cases: Sequence[Case]) -> None:
    """What one would write without a harness: best-loss PGD, batches already stacked apart."""
    for start in range(0, len(cases), BATCH):
        group = [cases[i] for i in range(start, min(start + BATCH, len(cases)))]
        clean = torch.stack([case.image for case in group])
        target = torch.stack([case.target for case in group])
        image = (clean + EPS * (2 * torch.rand_like(clean) - 1)).clamp(0, 1)
        for _ in range(STEPS):
            image = image.detach().requires_grad_()
            loss = nn.functional.cross_entropy(net(image), target, reduction="sum")
            step = torch.autograd.grad(loss, image)[0].sign()
            image = image.detach() + 0.1 * EPS * step
            image = torch.minimum(torch.maximum(image, clean - EPS), clean + EPS).clamp(0, 1)
        with torch.no_grad():
            (net(image).argmax(dim=1) == target).float().tolist()


def harness(net: nn.Module, cohort: rb.Cohort, folder: Path) -> None:
    """The same attack as cells, stored."""
    ball = rb.Ball("linf", EPS, (0, 1))
    metrics = {"correct": rb.build("metrics", "correct")}
    attack = rb.build("attacks", "pgd", steps=STEPS, step_size=0.1)
    probe = rb.attacked("pgd", attack, ball, metrics)
    asked = [Inquiry(probe, range(len(cohort)))]
    summaries = [summarise(case) for case in cohort.cases]
    todo = list(cells(asked, summaries, model="benchmark", seed=0))
    model = rb.TorchModel(net, TASK, (0, 1))
    compute(model, cohort, todo, folder, Effort(0, BATCH), lambda _progress: None)


def ratio(count: int, repeats: int) -> dict[str, object]:
    """Both in turn on cases held in memory; the median of the ratios pair by pair."""
    side, net = 32, network(32, 16)
    cases = [Noise(count, side)[i] for i in range(count)]
    cohort = rb.Cohort("noise", TASK, (0, 1), cases)
    pairs = []
    for repeat in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            ours = seconds(lambda: harness(net, cohort, Path(folder)))
        plain = seconds(lambda: bare(net, cases))
        if repeat:
            pairs.append((ours, plain))
    ratios = sorted(ours / plain for ours, plain in pairs)
    return {
        "cases": count, "repeats": repeats, "median_ratio": round(np.median(ratios), 3),
        "lowest": round(ratios[0], 3), "highest": round(ratios[-1], 3),
        "harness_s": round(np.median(ours for ours, _ in pairs), 3),
        "bare_s": round(np.median(plain for _, plain in pairs), 3),
    }  # fmt: skip


def seconds(work: Callable[[], None]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mib(count: int) -> float:
    """Peak resident memory of a process that attacks `count` cases."""
    command = [sys.executable, __file__, "--memory-of", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def attack_in_this_process(count: int) -> None:
    """Attack `count` lazily drawn cases and print this process's peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        cohort = rb.Cohort("noise", TASK, (0, 1), Noise(count, 16))
        harness(network(16, 8), cohort, Path(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measure, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and repeats")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        attack_in_this_process(options.memory_of)
        return
    speed = ratio(64, 3) if options.quick else ratio(256, 9)
    sizes = (200, 2000) if options.quick else (200, 2000, 20000)
    memory = {str(size): round(peak_mib(size), 1) for size in sizes}
    machine = {"cpu": platform.machine(), "threads": torch.get_num_threads(),
               "torch": torch.__version__}  # fmt: skip
    result = {"baseline": "bare PGD-20 loop", "speed": speed, "peak_mib": memory,
              "machine": machine}  # fmt: skip
    print(json.dumps(result, indent=1))
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

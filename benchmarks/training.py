"""An epoch of training against a bare PyTorch loop: same network, cases, batches and optimiser.

Claim: the loop (order, stacking, losses per case, divergence watched, one row of the curve) costs
at most 5 % over the bare loop. Each epoch is followed by one of the bare loop, so both meet the
same machine; the ratio is the median over such pairs, of wall time and of processor time, which
other programs on the machine disturb less. What a training costs beside its steps (digests,
checkpoints) is told apart.

    python benchmarks/training.py [--quick]
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.steps import Progress

RESULT = Path(__file__).parent / "results" / "training.json"
GOAL = 1.05


@dataclass(frozen=True)
class Work:
    """What is trained: a network on random cases of one shape."""

    network: str
    task: rb.Task
    size: int
    cases: int
    batch: int
    settings: dict[str, object]


def works(*, quick: bool) -> list[Work]:
    """A network whose steps are long, and one whose steps are short."""
    masks = rb.Task("segmentation", ("background", "lv", "myo", "rv"))
    classes = rb.Task("classification", ("a", "b", "c", "d"))
    return [
        Work("unet", masks, 64, 32 if quick else 96, 16, {}),
        Work("lenet", classes, 64, 256 if quick else 1024, 16, {"size": (64, 64)}),
    ]


def built(work: Work) -> nn.Module:
    """The network, the same each time."""
    torch.manual_seed(0)
    return rb.build("networks", work.network, preset="small", classes=4, **work.settings)


def cohort_of(work: Work) -> rb.Cohort:
    """Random images, in memory."""
    draw = torch.Generator().manual_seed(1)
    shape = (work.size, work.size)
    cases = []
    for number in range(work.cases):
        image = torch.rand(1, *shape, generator=draw)
        mask = work.task.kind == "segmentation"
        target = torch.randint(4, shape if mask else (), generator=draw)
        cases.append(rb.Case(f"c{number}", f"p{number}", image, target))
    return rb.Cohort("random", work.task, (0, 1), cases)


def bare(work: Work, cohort: rb.Cohort) -> Callable[[], None]:
    """What one would write without a harness: one epoch, of cases stacked beforehand."""
    network = built(work).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    images = torch.stack([case.image for case in cohort.cases])
    targets = torch.stack([case.target for case in cohort.cases])

    def epoch() -> None:
        order = torch.randperm(len(images))
        for chosen in order.split(work.batch):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(network(images[chosen]), targets[chosen])
            loss.backward()
            optimiser.step()

    return epoch


def seconds(call: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes."""
    started = clock()
    call()
    return clock() - started


def pairs_of(work: Work, cohort: rb.Cohort, epochs: int) -> tuple[np.ndarray, float]:
    """Wall and processor seconds of each epoch, `(epochs, clocks, ours and bare)`.

    The second value is what one training took in all beside these.
    """
    other, found, processor = bare(work, cohort), [], []
    settings = TrainSettings(epochs=epochs, batch_size=work.batch)

    def after_step(progress: Progress) -> None:
        if progress.cases == work.batch:
            processor.clear()
        processor.append(time.process_time())

    def after_epoch(row: Mapping[str, float]) -> None:
        # From the first step's end to the last one's, so scaled up to all.
        steps = len(processor)
        ours = (processor[-1] - processor[0]) * steps / (steps - 1)
        started = time.process_time()
        wall = seconds(other)
        found.append(((row["seconds"], wall), (ours, time.process_time() - started)))

    with tempfile.TemporaryDirectory() as folder:
        whole = seconds(lambda: train(
            built(work), cohort, settings, folder=Path(folder), on_epoch=after_epoch,
            on_step=after_step,
        ))  # fmt: skip
    times = np.array(found)
    return times, whole - float(times[:, 0].sum())


def measured(work: Work, epochs: int) -> dict[str, object]:
    """Epochs of both in turn, the first pair as a warm-up."""
    times, beside = pairs_of(work, cohort_of(work), epochs + 1)
    wall, processor = times[1:, 0], times[1:, 1]
    ratios = wall[:, 0] / wall[:, 1]
    steps = work.cases // work.batch
    return {
        "network": work.network, "size": work.size, "cases": work.cases, "batch": work.batch,
        "epochs": epochs, "ratio": round(float(np.median(ratios)), 3),
        "ratio_quartiles": [round(float(q), 3) for q in np.quantile(ratios, (0.25, 0.75))],
        "processor_ratio": round(float(np.median(processor[:, 0] / processor[:, 1])), 3),
        "step_ms": round(1e3 * float(np.median(wall[:, 0])) / steps, 2),
        "bare_step_ms": round(1e3 * float(np.median(wall[:, 1])) / steps, 2),
        "beside_steps_ms_per_epoch": round(1e3 * beside / (epochs + 1), 1),
    }  # fmt: skip


def main() -> None:
    """Measure, print, and store unless quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few epochs; nothing is stored")
    options = parser.parse_args()
    epochs = 4 if options.quick else 30
    found = [measured(work, epochs) for work in works(quick=options.quick)]
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for row in found:
        print(
            f"{row['network']}: {row['step_ms']} ms a step, bare {row['bare_step_ms']} ms: "
            f"ratio {row['ratio']} (quartiles {row['ratio_quartiles']}, goal {GOAL}), "
            f"of processor time {row['processor_ratio']}; "
            f"{row['beside_steps_ms_per_epoch']} ms per epoch beside the steps"
        )
    if not options.quick:
        text = json.dumps({"goal": GOAL, "found": found, "machine": machine}, indent=1)
        RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

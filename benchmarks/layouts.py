"""Do channels-last, bfloat16 or torch.compile make a forward and backward pass faster here?

Three networks on random images; each layout in turns with the plain network, medians of the ratios.
What is printed holds for the device that is named, and for no other. Without `-P` the compiler
would take benchmarks/statistics.py for Python's own.

    python -P benchmarks/layouts.py [--quick] [--device cuda]
"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import robustbench_med as rb
from robustbench_med.cases import Batch
from robustbench_med.engine.layouts import layouts

RESULT = Path(__file__).parent / "results" / "layouts.json"
MASKS = rb.Task("segmentation", ("background", "lv", "myo", "rv"))
CLASSES = rb.Task("classification", ("a", "b", "c", "d"))
NETWORKS = {
    "unet": (MASKS, {}),
    "bai_fcn": (MASKS, {}),
    "lenet": (CLASSES, {"size": (64, 64)}),
}
SIZE, CASES = 64, 16


def batch_of(task: rb.Task, device: str) -> Batch:
    """Random images and targets."""
    stream = torch.Generator().manual_seed(1)
    image = torch.rand(CASES, 1, SIZE, SIZE, generator=stream)
    shape = (CASES, SIZE, SIZE) if task.kind == "segmentation" else (CASES,)
    target = torch.randint(4, shape, generator=stream)
    return Batch(tuple(f"case-{row}" for row in range(CASES)), image, target).to(device)


def main() -> None:
    """Print a row per network and layout; store them unless quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 repeats; nothing is stored")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, (task, settings) in NETWORKS.items():
        torch.manual_seed(0)
        network = rb.build("networks", name, preset="small", classes=4, **settings)
        model = rb.TorchModel(network.to(asked.device), task, (0, 1))
        found = layouts(model, batch_of(task, asked.device), repeats=3 if asked.quick else 15)
        for one in found.tried:
            row = {"network": name, "device": found.device, "plain_seconds": found.seconds,
                   **asdict(one), "gains": one.gains}  # fmt: skip
            print(json.dumps(row), flush=True)
            rows.append(row)
        print(f"{name}: {found.best or 'plain'} is kept", flush=True)
    if not asked.quick:
        machine = {
            "processor": processor(),
            "torch": torch.__version__,
            "images": [CASES, 1, SIZE, SIZE],
        }
        RESULT.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The page's table, `docs/faster.md`."""
    lines = ["| network | layout | time | answers off by | slope's cosine | gains |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        seen = f"{row['ratio']:.2f} | {row['difference']:.0e} | {row['slope']:.3f}"
        said = row["why_not"] or ("yes" if row["gains"] else "no")
        lines.append(f"| `{row['network']}` | `{row['name']}` | {seen} | {said} |")
    return lines


def processor() -> str:
    """Name of the processor, where Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()

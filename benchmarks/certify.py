"""What certification costs and how close it comes, next to auto-LiRPA and to gradient search.

- speed: certified pixels per second of the ladder on a network as it is written out, with its
  proof, against a call of auto-LiRPA's CROWN (matrix mode, its chunks) for every pixel, and the
  time of the checker. 64 x 64, three classes, a small network trained here, three held-out images;
  of 256 rows at random the limits of both are compared, ours not stopped early.
- widths: certified by reached width of single outputs, per network and method. The search stops
  the run if it gets outside of what is certified.
- branching: certified accuracy of a digits classifier by CROWN, own slopes, and branch and bound
  with growing budgets. What CROWN leaves undecided stays so however long it runs.

Every part and every peak of memory is taken in a process of its own, on one thread; seconds are
CPU time, medians over three rounds, methods in turn, every other round in reverse. Networks and
finished jobs are kept in the folder: delete it to begin anew.

    OMP_NUM_THREADS=1 python -P benchmarks/certify.py [--quick] [--folder runs/certify]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from certify_parts import branched, speed, widths
from certify_parts.clock import middle, peak_mib
from certify_parts.tables import tables, times
from certify_parts.trained import cascade, digits_classifier, fcn, strided_unet

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "certify.json"
ROUNDS = 3
SPEED_PEAKS = ("ladder", "engine", "checker")


def work(job: str, folder: Path, *, quick: bool) -> Any:  # noqa: ANN401
    """Do one job in this process.

    Args:
        job: `train`, `speed`, `branching`, `peak/speed/WHAT`, `peak/branching/METHOD` or
            `width/NETWORK/METHOD/ROUND`.
        folder: Where networks are kept.
        quick: With tiny sizes, to see that it runs.
    """
    kind, *more = job.split("/")
    if kind == "train":
        for train in (fcn, strided_unet, digits_classifier, cascade):
            train(folder, quick=quick)
        return {"peak_mib": peak_mib()}
    if kind == "width":
        return widths.width(more[0], more[1], folder, quick=quick)
    if kind == "peak":
        remember = speed.memory if more[0] == "speed" else branched.memory
        return remember(folder, more[1], quick=quick)
    return (speed.speed if kind == "speed" else branched.branched)(folder, quick=quick)


def ask(job: str, options: argparse.Namespace) -> Any:  # noqa: ANN401
    """Do a job in a process of its own, unless its answer is kept already."""
    path = options.folder / "jobs" / f"{job.replace('/', '-')}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", __file__, "--folder", str(options.folder), "--job", job]
        command += ["--quick"] * options.quick
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        path.write_text(done.stdout, encoding="utf-8")
        print(job, flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def all_widths(options: argparse.Namespace) -> dict[str, Any]:
    """Of every network: ratios, seconds and memory of every method; methods in turn."""
    names = widths.QUICK_NETWORKS if options.quick else widths.NETWORKS
    methods = ("pgd", *widths.METHODS)
    rounds = 1 if options.quick else ROUNDS
    answers = {
        (name, method, turn): ask(f"width/{name}/{method}/{turn}", options)
        for turn in range(rounds)
        for name in names
        for method in methods[:: -1 if turn % 2 else 1]
    }
    found = {}
    for name in names:
        rows = {}
        for method in methods:
            each = [answers[name, method, turn] for turn in range(rounds)]
            rows[method] = {
                "ratios": widths.ratios(each[0], answers[name, "pgd", 0]),
                "seconds": middle([one["seconds"] for one in each]),
                "peak_mib": middle([one["peak_mib"] for one in each]),
            }
        first, searched = answers[name, "pgd", 0], rows.pop("pgd")
        found[name] = {
            "about": first["about"], "outputs": first["outputs"], "methods": rows,
            "pgd": {key: searched[key] for key in ("seconds", "peak_mib")},
        }  # fmt: skip
    return found


def main() -> int:
    """Ask for what is not kept yet, print the tables, store them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is stored")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    default = ROOT / "runs" / ("certify_quick" if options.quick else "certify")
    options.folder = options.folder or default
    if options.job:
        answer = work(options.job, options.folder, quick=options.quick)
        print(json.dumps(answer))
        return 0
    ask("train", options)
    methods = branched.efforts(quick=options.quick)
    result = {
        "speed": ask("speed", options),
        "widths": all_widths(options),
        "branching": ask("branching", options),
        "memory": {
            "64 x 64 pixels": {w: ask(f"peak/speed/{w}", options) for w in SPEED_PEAKS},
            "digits": {
                m: ask(f"peak/branching/{m}", options) for m in (branched.ENGINE, *methods)
            },
        },
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                    "torch": torch.__version__},
    }  # fmt: skip
    print("\n\n".join("\n".join(lines) for lines in tables(result)))
    print("\ntimes, by radius:", ", ".join(f"{each:.2f}" for each in times(result)))
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

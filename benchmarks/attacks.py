"""Our attacks against torchattacks, foolbox and ART: what is left standing, and what it costs.

One run, the same networks, cases and balls, tool after tool in turn, every other time in reverse.
A small network on drawn images, trained naturally, trained adversarially, and with logits times
1000; the shipped segmenter `bai_fcn`; and the shipped `lenet` on simulated hearts, on fewer cases
where the searches are long. Every image that a tool returns is pulled into the ball and scored
here, by one forward pass. `plain` is our own AutoAttack without its savings: every part on every
case, all classes and all steps. The parts of this script are in benchmarks/attack_peers.

    pip install --no-deps foolbox==3.3.4 eagerpy==0.30.0 gitpython gitdb smmap
    pip install --no-deps adversarial-robustness-toolbox==1.20.1 six multiprocess dill
    OMP_NUM_THREADS=1 python -P benchmarks/attacks.py [--folder runs/attacks] [--repeats 3]

or the extra `peers`. A tool that is not installed, or cannot do what is asked, is left out with the
reason. Seconds are CPU time of this process on one thread, medians over the repeats; a row that has
taken 30 seconds is not repeated. Rows that benchmarks/results/attacks.json holds are kept, so it
can be stopped and started again.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from attack_peers.asked import OFTENER, asked
from attack_peers.drawn_squares import small_networks
from attack_peers.figures import summary, table
from attack_peers.hearts import shipped_networks
from attack_peers.measured import added
from attack_peers.memory import FEW, MANY, added_mib, remember
from attack_peers.peers import PEERS
from attack_peers.setting import Setting, held

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "attacks.json"
LONG = 30.0
"""CPU seconds after which a row is not repeated."""


def settings(folder: Path) -> Iterator[Setting]:
    """Every network with its cases, the cheap ones first."""
    yield from small_networks(folder)
    yield from shipped_networks()


def run_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Fill in what the results lack, family by family, tools in turn; store after each."""
    every = [setting for setting in settings(options.folder) if options.only in setting.name]
    for tool, run in asked(every[0]).get("pgd", {}).items():
        added(None, every[0], tool, run)  # a tool's first call is slower than others
    for setting in every:
        result["networks"][setting.name] = {
            "cases": len(setting.batch), "eps": setting.ball.eps,
            "right": int(held(setting, setting.batch.image)[0].sum()),
        }  # fmt: skip
    todo = [
        (repeat, setting, tool, run)
        for family, oftener in OFTENER.items()
        for repeat in range(options.repeats * oftener)
        for setting in every
        for tool, run in list(asked(setting).get(family, {}).items())[:: -1 if repeat % 2 else 1]
    ]
    for repeat, setting, tool, run in todo:
        rows = result["rows"].setdefault(setting.name, {})
        row = rows.get(tool, {"seconds": []})
        if "left_out" in row or len(row["seconds"]) > repeat or sum(row["seconds"]) > LONG:
            continue
        rows[tool] = added(rows.get(tool), setting, tool, run)
        print(setting.name, tool, json.dumps(rows[tool]), flush=True)
        store(result, options.result)


def remember_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Fill in what memory each tool adds, and ours on few cases and on many."""
    found = result["added_mib"]
    tools = [tool for tool, row in result["rows"].get("lenet", {}).items()
             if tool.endswith("pgd 40") and "held" in row]  # fmt: skip
    for what in (*tools, str(FEW), str(MANY)):
        if what not in found:
            found[what] = added_mib(options.folder, what)
            store(result, options.result)


def store(result: dict[str, Any], path: Path) -> None:
    """Write what there is, with what follows from it."""
    content = json.dumps({**result, **summary(result["rows"])}, indent=1)
    path.write_text(content + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of the peers that are installed; imports them, so that no row pays for that."""
    found = {}
    for name, package in PEERS.items():
        if importlib.util.find_spec(name) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
            found[name] = importlib.metadata.version(package)
    return found


def main() -> None:
    """Measure what the results lack, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "attacks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--result", type=Path, default=RESULT, help="where rows are kept")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        remember(options.folder, options.memory_of)
        return
    known = options.result
    result = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    result = {"networks": {}, "rows": {}, "added_mib": {}, **result}
    result["machine"] = {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1,
                         "torch": torch.__version__, **versions()}  # fmt: skip
    run_all(options, result)
    remember_all(options, result)
    print("\n".join(table(result)))
    print(json.dumps({**summary(result["rows"]), "added_mib": result["added_mib"]}, indent=1))


if __name__ == "__main__":
    main()

"""How often the validity panel speaks against a sound attack, and how often it finds a hidden one.

Many trainings of the masking zoo's honest models, and an MLP, are attacked with `apgd` in a ball
under linf (even seeds) or l2 (odd seeds). Nothing hides there, so each verdict other than `valid`
is a false alarm, or an attack that is too short on that network: `at_most` tells which. In every
training the naturally trained network is also hidden behind three of the zoo's tricks, in turn.

    python benchmarks/panel_alarms.py [--seeds 50] [--minutes 20]

Seeds that are stored in benchmarks/results/panel_alarms.json are not run again; no seed is started
after so many minutes of processor time.
"""

import argparse
import json
import platform
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch
from robustbench_med.engine.validity import Panel, panel, scaled
from robustbench_med.engine.validity_questions import Searches
from robustbench_med.model import TorchModel
from robustbench_med.statistics.proportions import clopper_pearson
from robustbench_med.threat import Ball

HERE = Path(__file__).parent
RESULT = HERE / "results" / "panel_alarms.json"
ZOO = runpy.run_path(str(HERE / "masking_zoo.py"))
TASK, SIDE, CASES = ZOO["TASK"], ZOO["SIDE"], ZOO["CASES"]
BALLS = (Ball("linf", 0.03, (0.0, 1.0)), Ball("l2", 0.25, (0.0, 1.0)))
ATTACK = Apgd(steps=50)
TRICKS = 3  # of each training
FIRST = 1000  # far from the seeds that the zoo was made with


def mlp() -> nn.Module:
    """Two hidden layers, untrained."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 4),
    )  # fmt: skip


def models(seed: int) -> Iterator[tuple[str, bool, nn.Module]]:
    """Yield name, whether it hides its gradients, and the network, of one training."""
    honest = dict(ZOO["honest"](seed))
    torch.manual_seed(seed + 1)
    honest["MLP"] = ZOO["trained"](mlp(), seed)
    for name, network in honest.items():
        yield name, False, network
    tricks = list(ZOO["masked"](honest["naturally trained"]))
    for turn in range(TRICKS):
        name, network = tricks[(TRICKS * seed + turn) % len(tricks)]
        yield name, True, network


def examined(network: nn.Module, surrogate: nn.Module, seed: int) -> Panel:
    """Ask everything that a panel can ask, on fresh images."""
    image, target = ZOO["images"](2 * CASES, seed + 5000)
    ids = tuple(f"case-{row}" for row in range(len(image)))
    searches = Searches(
        weaker=scaled(ATTACK, 0.25), stronger=scaled(ATTACK, 4), random=RandomSearch,
        black_box=Square(queries=500), surrogate=TorchModel(surrogate, TASK, (0.0, 1.0)),
    )  # fmt: skip
    return panel(
        TorchModel(network, TASK, (0.0, 1.0)), [Batch(ids, image, target)], ATTACK,
        BALLS[seed % len(BALLS)], searches, size=CASES, seed=seed,
    )  # fmt: skip


def trained(seed: int) -> list[dict[str, Any]]:
    """Rows of one training; the surrogate comes from another one."""
    torch.manual_seed(seed + 100000)
    surrogate = ZOO["trained"](ZOO["convolutional"](), seed + 100000)
    rows = []
    for name, hides, network in models(seed):
        found = examined(network, surrogate, seed)
        spoke = [c.name for c in found.checks if c.says in ("suspect", "masked")]
        rows.append({
            "model": name, "hides": hides, "norm": BALLS[seed % len(BALLS)].norm, "n": found.n,
            "withstood": round(found.withstood, 4), "at_most": round(found.at_most, 4),
            "verdict": found.verdict, "spoke": spoke,
        })  # fmt: skip
    return rows


def share(count: int, n: int) -> str:
    """Count of n with an exact interval, as the page prints it."""
    low, high = clopper_pearson(count, n)
    return f"{count} of {n} [{low:.3f}, {high:.3f}]"


def table(stored: dict[str, Any], *, hides: bool) -> list[str]:
    """Rows of the page's table: of honest models or of hidden ones, the last for all of them."""
    rows = [row for rows in stored["seeds"].values() for row in rows if row["hides"] == hides]
    lines = []
    for name in [*dict.fromkeys(row["model"] for row in rows), "all"]:
        mine = [row for row in rows if name in (row["model"], "all")]
        said = [row["verdict"] for row in mine]
        flagged = len(mine) - said.count("valid")
        spoke = sorted({check for row in mine for check in row["spoke"]})
        cells = [share(flagged, len(mine)), share(said.count("masked"), len(mine))]
        if not hides:
            cells.append(", ".join(f"`{check}`" for check in spoke) or "none")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run what is not stored yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"seeds": {}}
    stored |= {
        "torch": torch.__version__, "python": platform.python_version(),
        "device": f"{platform.machine()} processor, one thread",
        "balls": [str(ball) for ball in BALLS], "attack": repr(ATTACK),
    }  # fmt: skip
    for seed in range(FIRST, FIRST + asked.seeds):
        if str(seed) in stored["seeds"]:
            continue
        if time.process_time() > 60 * asked.minutes:
            break
        stored["seeds"][str(seed)] = trained(seed)
        RESULT.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
        said = [row["verdict"] for row in stored["seeds"][str(seed)]]
        print(f"{seed} {time.process_time():.0f} s {' '.join(said)}", flush=True)
    print("\n".join([*table(stored, hides=False), "", *table(stored, hides=True)]))


if __name__ == "__main__":
    main()

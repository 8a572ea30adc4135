"""Whether a point can be found that breaks a limit: every operator, network and engine.

Networks, alone and as they occur, over linf balls, l2 balls and balls on half of the pixels, are
bounded by auto-LiRPA (as `bound` uses it, in the network's own type) and by the ladder (IBP to
branch and bound, in float64 with every rounding accounted for), and the ladder's proofs are
derived again by the checker. Then corners, faces, random points and gradient attacks on each row
are evaluated in float64. A point counts once for each network and set. Limits of auto-LiRPA may
be off by `certify.lirpa.SLACK` of 1 + the largest value met, limits of the ladder by nothing.

    python -P benchmarks/soundness.py [--quick] [--minutes 15]

What benchmarks/results/soundness.json has is not run again: remove it after a change.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

# Last, as `python -P` would not have it at all: this folder has a statistics.py.
sys.path.append(str(Path(__file__).parent))

from soundness_parts.families import Subject, subjects
from soundness_parts.limits import by_tool
from soundness_parts.points import Spent
from soundness_parts.tiny import cut, enumerated
from soundness_parts.trial import SHAPES, Shape, tried

RESULT = Path(__file__).parent / "results" / "soundness.json"
SPENT = Spent(drawn=512, starts=12, steps=30)
SEEDS = {
    "operators, written out": 1, "operators of auto-LiRPA": 1, "U-Nets": 2, "fixed cascade": 1,
    "trained": 1,
}  # fmt: skip
TINY, CUT = 200, 20
HEADS = (
    "family", "networks and sets", "points", "engine", "violations", "nearest to one",
    "width by what was reached",
)  # fmt: skip
ENGINES = ("auto-LiRPA", "ours", "checker")
Trial = Callable[[], dict[str, Any]]


def trials() -> Iterator[tuple[str, Trial]]:
    """Name all of them, each with what runs it."""
    for subject in subjects():
        for seed in range(SEEDS.get(subject.family, 4)):
            for shape in SHAPES:
                key = f"{subject.family} | {subject.name} | {shape} | {seed}"
                yield key, _trial(subject, shape, seed)
    for seed in range(TINY):
        yield f"tiny, enumerated | {seed}", _enumerated(seed)
    for seed in range(CUT):
        for ball in (False, True):
            yield f"cut inputs | {'ball' if ball else 'box'} | {seed}", _cut(seed, ball=ball)


def _trial(subject: Subject, shape: Shape, seed: int) -> Trial:
    return lambda: tried(subject, shape, seed, SPENT)


def _enumerated(seed: int) -> Trial:
    return lambda: enumerated(seed)


def _cut(seed: int, *, ball: bool) -> Trial:
    return lambda: cut(seed, ball=ball)


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One line a family and engine, and one of all."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    families = list(dict.fromkeys(row["family"] for row in rows.values()))
    for family in [*families, ""]:
        here = [row for row in rows.values() if family in ("", row["family"])]
        points = sum(row["points"] for row in here)
        for engine in ENGINES:
            limits = [x for row in here for x in row["limits"] if x["engine"] == engine]
            if limits:
                lines.append(
                    f"| {family or '**all**'} | {len(here)} | {points:,} | {engine} | "
                    f"{sum(x['violations'] for x in limits)} | {_nearest(limits)} | "
                    f"{_width(limits) if engine != 'checker' else ''} |"
                )
    return lines


def _nearest(limits: list[dict[str, Any]]) -> str:
    return f"{max(limit['worst'] for limit in limits):.1e}"


def _width(limits: list[dict[str, Any]]) -> str:
    """Of CROWN, in the median over networks and sets."""
    best = [x["width"] / x["reached"] for x in limits if x["reached"] > 0 and x["width"] > 0]
    return f"{torch.tensor(best).median():.2f}" if best else ""


def shortened(row: dict[str, Any]) -> dict[str, Any]:
    """Keep one entry a tool."""
    tools = [x for x in ENGINES if any(y["engine"].startswith(x) for y in row["limits"])]
    return row | {"limits": [by_tool(tool, row["limits"]) for tool in tools]}


def run(rows: dict[str, dict[str, Any]], store: Callable[[], None], minutes: float) -> None:
    """Add what is not there yet, until so many minutes of processor time are spent."""
    started, last = time.process_time(), 0.0
    for number, (key, trial) in enumerate(trials()):
        spent = time.process_time() - started
        if key in rows:
            continue
        if spent > 60 * minutes:
            print(f"soundness: {minutes:g} minutes are spent; run again for more", file=sys.stderr)
            break
        try:
            rows[key] = shortened(trial())
        except Exception:
            store()  # what was looked at until here
            print(f"soundness: {key}", file=sys.stderr)
            raise
        worst = max((x["over"] for x in rows[key]["limits"]), default=float("nan"))
        print(f"{spent:6.0f} s {number:4d} {key}: {worst:.1e}", file=sys.stderr, flush=True)
        if any(x["violations"] for x in rows[key]["limits"]):
            print(f"VIOLATION {json.dumps(rows[key])}", file=sys.stderr, flush=True)
        if spent - last > 20:  # so that little is lost
            store()
            last = spent
    store()


def main() -> None:
    """Print the table; exit with 1 if a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half a minute; nothing is stored")
    parser.add_argument("--minutes", type=float, default=15, help="of processor time, at most")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows: dict[str, dict[str, Any]] = {}
    if RESULT.exists() and not asked.quick:
        rows = json.loads(RESULT.read_text("utf-8"))["rows"]

    def store() -> None:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1}
        if not asked.quick:
            lines = ",\n".join(
                f" {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items()
            )
            head = json.dumps(machine)[:-1]
            RESULT.write_text(f'{head}, "rows": {{\n{lines}\n}}}}\n', "utf-8")

    run(rows, store, 0.5 if asked.quick else asked.minutes)
    print("\n".join(table(rows)))
    if not all(row.get("truth_reached", True) for row in rows.values()):
        print("branch and bound missed a truth", file=sys.stderr)
        raise SystemExit(1)
    if any(limit["violations"] for row in rows.values() for limit in row["limits"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""By how much memory grows while something runs, in a process of its own."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attack_peers.asked import asked
from attack_peers.drawn_squares import drawn, small_networks
from attack_peers.hearts import classifier
from attack_peers.measured import measured
from attack_peers.setting import held
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Case, Cohort
from robustbench_med.engine.evaluate import evaluate
from robustbench_med.probes import attacked

SCRIPT = Path(__file__).parents[1] / "attacks.py"
FEW, MANY = 100, 3200


def added_mib(folder: Path, what: str) -> float:
    """MiB that `what`, a tool or a number of cases, adds at its peak."""
    command = [sys.executable, "-P", str(SCRIPT), "--folder", str(folder), "--memory-of", what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(float(done.stdout.split()[-1]), 1)


def remember(folder: Path, what: str) -> None:
    """Print by how many MiB memory grows while one thing runs, after all it needs was made."""
    run = _engine(folder, int(what)) if what.isdecimal() else _tool(what)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def _tool(name: str) -> Callable[[], object]:
    """PGD of one tool on all cases of the classifier at once."""
    setting = classifier()
    held(setting, setting.batch.image)
    run = asked(setting)["pgd"][name]
    return lambda: measured(run, setting)


def _engine(folder: Path, count: int) -> Callable[[], object]:
    """Run our PGD in the engine, 16 cases at a time, on so many cases."""
    setting = next(small_networks(folder))
    image, target = drawn(count, 3)
    cases = [Case(f"case-{row}", f"case-{row}", image[row], target[row]) for row in range(count)]
    cohort = Cohort("drawn", setting.model.task, setting.model.bounds, cases)
    metrics = {"correct": lambda output, target: (output.argmax(dim=1) == target).double()}
    probe = attacked("pgd", Pgd(steps=10), setting.ball, metrics)
    next(evaluate(setting.model, cohort, [probe]))
    return lambda: sum(1 for _ in evaluate(setting.model, cohort, [probe]))

"""Compute cells in this process, each stored as soon as it is whole."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.cases import Cohort, batches
from robustbench_med.engine.agreement import check_batch
from robustbench_med.engine.cells import Cell
from robustbench_med.engine.evaluate import Failure, device_of, measure
from robustbench_med.engine.store import Outcome, is_stored, keeping, save
from robustbench_med.model import Model
from robustbench_med.probes import Record


@dataclass(frozen=True)
class Progress:
    """How far a run is, in answers: one probe's about one case.

    Attributes:
        done: Answers known, stored ones included.
        total: Answers that the plan asks for.
        fresh: Answers computed by this process.
        seconds: That this process has computed for.
        left: Estimated seconds to the end; NaN before anything is known.
        probe: Name of the probe at work.
        unit: What is counted.
    """

    done: int
    total: int
    fresh: int
    seconds: float
    left: float
    probe: str
    unit: str = "answers"


@dataclass(frozen=True)
class Effort:
    """How cells are computed.

    Attributes:
        seed: Of every case's random streams.
        batch_size: Cases at a time; does not change values beyond rounding.
    """

    seed: int
    batch_size: int


OnProgress = Callable[[Progress], None]


def compute(
    model: Model,
    cohort: Cohort,
    cells: Sequence[Cell],
    folder: Path,
    effort: Effort,
    on_progress: OnProgress,
) -> int:
    """Compute the cells that are not stored yet; return how many that were.

    Interrupted or killed at any moment, it leaves whole cells only, and continues from them.
    """
    waiting = [cell for cell in cells if not is_stored(folder, cell)]
    clock = _Clock(cells, waiting, on_progress)
    device = device_of(model)
    for cell in waiting:
        records: list[Record] = []
        failures: list[Failure] = []
        started = time.perf_counter()
        for batch in batches(cohort.cases, cell.indices, effort.batch_size):
            check_batch(batch, cohort.task, cohort.bounds)
            found, failed = measure(
                model, batch.to(device), cell.probe, effort.seed, keeping(folder, cell)
            )
            records += found
            failures += failed
            clock.tick(cell.probe.name, len(batch))
        seconds = time.perf_counter() - started
        # By case, so that batches of equal shapes leave no trace in the table.
        position = {case_id: i for i, case_id in enumerate(cell.case_ids)}
        records.sort(key=lambda record: position[record.case_id])
        save(folder, cell, Outcome(tuple(records), tuple(failures), seconds))
    return len(waiting)


class _Clock:
    """Estimates the time left from each probe's own rate; unknown ones are taken as average."""

    def __init__(
        self, cells: Sequence[Cell], waiting: Sequence[Cell], on_progress: OnProgress
    ) -> None:
        self.total = sum(len(cell.indices) for cell in cells)
        self.left: dict[str, int] = {}
        for cell in waiting:
            self.left[cell.probe.name] = self.left.get(cell.probe.name, 0) + len(cell.indices)
        self.spent: dict[str, tuple[float, int]] = {}
        self.start = self.last = time.perf_counter()
        self.tell = on_progress

    def tick(self, probe: str, count: int) -> None:
        now = time.perf_counter()
        seconds, answers = self.spent.get(probe, (0.0, 0))
        self.spent[probe] = (seconds + now - self.last, answers + count)
        self.left[probe] -= count
        self.last = now
        fresh = sum(answers for _, answers in self.spent.values())
        done = self.total - sum(self.left.values())
        elapsed = now - self.start
        self.tell(Progress(done, self.total, fresh, elapsed, self._remaining(), probe))

    def _remaining(self) -> float:
        rates = {probe: seconds / answers for probe, (seconds, answers) in self.spent.items()}
        average = sum(rates.values()) / len(rates)
        return sum(count * rates.get(probe, average) for probe, count in self.left.items())

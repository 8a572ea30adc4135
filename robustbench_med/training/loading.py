"""From cases in some order to the batches that one process learns from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from robustbench_med.cases import Batch, Cohort, grouped, shapes_of, stack
from robustbench_med.training.distributed import Processes
from robustbench_med.training.workers import Reads

Shapes = Sequence[object]


@dataclass(frozen=True)
class Part:
    """What one process learns from at once.

    Attributes:
        batch: On the CPU.
        cases: How many cases all processes learn from at that moment.
        counts: False where there was no case left for this process: it goes along with one of
            another's, which counts for nothing.
    """

    batch: Batch
    cases: int
    counts: bool = True


@dataclass(frozen=True)
class Loader:
    """Makes batches of cohorts, the same whichever process reads the cases.

    Attributes:
        reads: See `Reads`.
        batch_size: Of each process.
        processes: Between which a larger batch is divided.
        shapes: Per cohort the shapes of all its cases, known to all processes; empty for one
            process, which sees them as it goes.
    """

    reads: Reads
    batch_size: int
    processes: Processes
    shapes: Sequence[Shapes] = field(repr=False, default=())

    def parts(self, which: int, order: Sequence[int]) -> Iterator[Part]:
        """Batches of the cases at `order` of a cohort, each of one shape."""
        if self.processes.count == 1:
            for cases in grouped(self.reads(which, order), self.batch_size, shapes_of):
                yield Part(stack(cases), len(cases))
            return
        size = self.batch_size * self.processes.count
        wholes = list(grouped(order, size, lambda index: self.shapes[which][index]))
        shares = [self.processes.share(whole) or whole[:1] for whole in wholes]
        reads = self.reads(which, [index for share in shares for index in share])
        for whole, share in zip(wholes, shares, strict=True):
            batch = stack([next(reads) for _ in share])
            yield Part(batch, len(whole), counts=len(whole) > self.processes.rank)


def loader(
    reads: Reads, cohorts: Sequence[Cohort], batch_size: int, processes: Processes
) -> Loader:
    """Make a loader; several processes read every case once to know the shapes."""
    if processes.count == 1:
        return Loader(reads, batch_size, processes)
    return Loader(reads, batch_size, processes, [
        _shapes(reads, which, len(cohort), processes) for which, cohort in enumerate(cohorts)
    ])  # fmt: skip


def _shapes(reads: Reads, which: int, count: int, processes: Processes) -> list[object]:
    own = processes.share(range(count))
    found = zip(own, map(shapes_of, reads(which, own)), strict=True)
    known = dict(pair for part in processes.gathered(list(found)) for pair in part)
    return [known[index] for index in range(count)]

"""What something takes: CPU seconds of this process, and its peak memory."""

import resource
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The answer, and CPU seconds."""
    started = time.process_time()
    answer = work()
    return answer, time.process_time() - started


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each; one after the other, every other round in reverse."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        for name in list(works)[:: -1 if repeat % 2 else 1]:
            seconds[name].append(timed(works[name])[1])
    return {name: middle(each) for name, each in seconds.items()}


def middle(values: Sequence[float]) -> float:
    """Median, to a tenth of a millisecond."""
    return round(median(values), 4)

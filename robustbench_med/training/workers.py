"""Processes that make cases, so that training does not wait for them."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

import torch

from robustbench_med.cases import Case, Cohort
from robustbench_med.errors import IncompleteError, InputError
from robustbench_med.training.distributed import here

Reads = Callable[[int, Sequence[int]], Iterator[Case]]
"""Reads cases: number of the cohort, their indices; yields them in that order."""
AHEAD = 8
MOST = 4
LONG_S = 5.0
TIMED = 3

_made_of: list[Sequence[Case]] = []  # of a worker process: what it makes cases of


@contextmanager
def reading(cohorts: Sequence[Cohort], workers: int) -> Iterator[Reads]:
    """Read the cohorts' cases, here or, with `workers`, in processes that end with the block.

    A worker makes a case as this process would, with as many threads. Worker `i % workers`
    always makes case `i`, so that what a cohort keeps is found again.

    Raises:
        InputError: If the cohorts cannot be sent to other processes.
    """
    cases = [cohort.cases for cohort in cohorts]
    if workers == 0:
        yield lambda which, order: (cases[which][index] for index in order)
        return
    pools = _started(_sent(cases), workers)
    try:
        yield lambda which, order: _read(pools, which, order)
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def suitable_workers(cohort: Cohort) -> int:
    """How many workers shorten a training: none where making all cases takes a few seconds.

    None either where the cohort cannot be sent to other processes.
    """
    free = _cores() // here().count - 1
    if isinstance(cohort.cases, (list, tuple)) or not cohort.cases or free < 1:
        return 0
    try:
        _sent([cohort.cases])
    except InputError:
        return 0
    started, timed = time.perf_counter(), min(TIMED, len(cohort))
    for index in range(timed):
        cohort.cases[index * len(cohort) // timed]
    seconds = (time.perf_counter() - started) / timed * len(cohort)
    return min(MOST, free) if seconds > LONG_S else 0


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sent(cases: list[Sequence[Case]]) -> bytes:
    try:
        # Plain bytes: tensors would go through shared memory, a file descriptor each.
        return pickle.dumps(cases)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"train: workers: the cohort cannot be sent to other processes ({error}); "
            "leave workers at 0"
        ) from error


def _started(sent: bytes, workers: int) -> list[ProcessPoolExecutor]:
    # Spawned: a fork of a process with threads or CUDA may hang.
    context = multiprocessing.get_context("spawn")
    pools = [
        ProcessPoolExecutor(1, context, _begin, (sent, torch.get_num_threads()))
        for _ in range(workers)
    ]
    with _interrupts_ignored():
        for pool in pools:
            pool.submit(_begun)
    return pools


def _read(pools: list[ProcessPoolExecutor], which: int, order: Sequence[int]) -> Iterator[Case]:
    waiting: deque[Future[bytes]] = deque()
    left = iter(order)
    try:
        while True:
            while len(waiting) < AHEAD * len(pools) and (index := next(left, None)) is not None:
                waiting.append(pools[index % len(pools)].submit(_make, which, index))
            if not waiting:
                return
            yield pickle.loads(waiting.popleft().result())  # noqa: S301 (made by our own process)
    except BrokenProcessPool as error:
        raise IncompleteError(
            "train: a process that makes cases was ended from outside, often for want of memory; "
            "train again to continue, with fewer workers or none"
        ) from error
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started now leave Ctrl-C to this one, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(sent: bytes, threads: int) -> None:
    """In a worker: take the cohorts, and end when the process that trains ends."""
    torch.set_num_threads(threads)
    _made_of[:] = pickle.loads(sent)  # noqa: S301 (sent by the process that started this one)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _begun() -> None:
    """In a worker: nothing; being asked for it starts one."""


def _make(which: int, index: int) -> bytes:
    return pickle.dumps(_made_of[which][index])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

"""Rows are worked on in chunks, and a chunk that ran out of memory is not lost."""

import pytest
import torch

from robustbench_med.certify.chunks import in_chunks, rows_at_once
from robustbench_med.errors import UnsupportedError

CPU = torch.device("cpu")


def test_chunks_cover_all_rows_once_and_in_order():
    sizes = []

    def work(part):
        sizes.append(part.stop - part.start)
        return torch.arange(part.start, part.stop)

    assert torch.equal(in_chunks(work, 10, 4), torch.arange(10))
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_a_chunk_that_runs_out_of_memory_is_halved_until_it_fits(error):
    tried = []

    def work(part):
        tried.append(part.stop - part.start)
        if part.stop - part.start > 3:
            raise error
        return torch.arange(part.start, part.stop)

    assert torch.equal(in_chunks(work, 9, 8), torch.arange(9))
    assert tried == [8, 4, 2, 2, 2, 2, 1]


def test_a_single_row_that_does_not_fit_is_an_error():
    def work(part):
        raise MemoryError

    with pytest.raises(UnsupportedError, match="not even one row fits"):
        in_chunks(work, 4, 4)


def test_any_other_error_is_passed_on():
    def work(part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_chunks(work, 4, 4)


def test_rows_at_once_is_a_power_of_two_within_the_budget_and_at_least_one():
    rows = rows_at_once(1000, 4, 10_000_000, CPU)
    assert rows == 256
    assert rows * 8 * 1000 * 4 <= 10_000_000 < 2 * rows * 8 * 1000 * 4
    assert rows_at_once(10**9, 4, 1, CPU) == 1

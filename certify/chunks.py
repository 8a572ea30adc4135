"""Work on rows in chunks that fit in memory, and halve a chunk that did not."""

import os
from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_med.errors import UnsupportedError

# Of working memory for a chunk; fixed, so that chunks, and with them the last bits of a
# bound, do not depend on what else runs; only a machine with less free gets smaller ones.
# Measured on a CPU: four times as much is slower, as chunks leave the cache.
BUDGET_BYTES = 1 << 28
# Coefficients of lower and upper bounds, their positive and negative parts, a skip connection.
COPIES = 8


def rows_at_once(widest: int, itemsize: int, budget: int, device: torch.device) -> int:
    """Return how many rows fit: each needs `COPIES` copies of the widest activation.

    Args:
        widest: Elements of the network's largest activation, for one case.
        itemsize: Bytes of an element.
        budget: Bytes to use at most; half of what is free, if that is less.
        device: Where the work is done.

    Returns:
        A power of two, at least 1.
    """
    rows = min(budget, _free_bytes(device) // 2) // (COPIES * widest * itemsize)
    return 1 << max(int(rows).bit_length() - 1, 0)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 * BUDGET_BYTES


def in_chunks(work: Callable[[slice], Tensor], total: int, size: int) -> Tensor:
    """Concatenate what `work` returns for consecutive slices of `range(total)`.

    A slice that runs out of memory is tried again in halves.

    Args:
        work: Maps a slice of length `r` to `(r,)`.
        total: Number of rows, at least 1.
        size: Longest slice to try.

    Raises:
        UnsupportedError: If a single row does not fit.
    """
    done: list[Tensor] = []
    start = 0
    while start < total:
        stop = min(start + size, total)
        try:
            done.append(work(slice(start, stop)))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if stop - start == 1:
                raise UnsupportedError("certify: not even one row fits in memory") from error
            size = (stop - start) // 2
            continue
        start = stop
    return torch.cat(done)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that memory ran out."""
    # torch has a class of its own for this on a GPU, but only a message on a CPU.
    known = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or "can't allocate memory" in str(error)

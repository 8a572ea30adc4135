"""Rows in halves, where memory does not do for all of them at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs.network import Floats

Some = NDArray[np.intp]


def in_halves(work: Callable[[Some], Floats], some: Some) -> Floats:
    """Do rows together; those that ran out of memory in two halves, one after the other.

    Args:
        work: Gives one value a row, whatever rows it is given with.
        some: `(n,)`, which rows.

    Returns:
        `(n,)`, in the order of the rows.

    Raises:
        UnsupportedError: If a single row does not fit.
    """
    try:
        return work(some)
    except MemoryError as error:
        if len(some) == 1:
            raise UnsupportedError(
                "certify: not even one row of coefficients fits in memory; crop the images or "
                "take a smaller network"
            ) from error
    middle = len(some) // 2
    return np.concatenate([in_halves(work, some[:middle]), in_halves(work, some[middle:])])

"""Changes of 0/1 values, patient by patient: who was right and is not, and the reverse."""

from collections.abc import Sequence

import numpy as np

from robustbench_med.statistics.comparison import Difference
from robustbench_med.statistics.paired import tango
from robustbench_med.statistics.portion import Portion
from robustbench_med.statistics.readings import Reading

TANGO = "Tango"


def with_flips(
    readings: Sequence[Reading], change: Portion, found: Sequence[Difference]
) -> list[Difference]:
    """Give changes of shares the paired score interval, where each patient changed as a whole.

    A few flips among many patients leave resamples without any, so that the bootstrap has no
    limits; the score interval has. Where a patient's several cases changed in part, the
    bootstrap's stays.

    Args:
        readings: With their probes, as the columns run.
        change: Probe minus clean, `q` columns.
        found: Of the same columns; NaN where nothing may be told.
    """
    shares = [reading.share for reading in readings for _ in reading.probes]
    return [
        counted(change, column, plain) if share and not np.isnan(plain.value) else plain
        for column, (share, plain) in enumerate(zip(shares, found, strict=True))
    ]


def counted(change: Portion, column: int, plain: Difference) -> Difference:
    """Give one column Tango's limits where every patient moved by -1, 0 or 1; else leave it."""
    held = change.held[:, column]
    patients = int(held.sum())
    moves = change.influence[held, column] * patients + change.values[column]
    whole = np.rint(moves)
    if np.abs(moves - whole).max(initial=0) > 1e-6 or np.abs(whole).max(initial=0) > 1:
        return plain
    gained, lost = int((whole == 1).sum()), int((whole == -1).sum())
    low, high = tango(gained, lost, patients)
    return Difference(plain.value, low, high, TANGO, plain.p)

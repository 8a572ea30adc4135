"""One group: its estimates, how it differs from the rest, and what probes change in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics import studentised
from robustbench_med.statistics.bootstrap import Floats, Replicates
from robustbench_med.statistics.changes import changes
from robustbench_med.statistics.comparison import NO_DIFFERENCE, Difference, of_means
from robustbench_med.statistics.estimate import Estimate
from robustbench_med.statistics.flips import with_flips
from robustbench_med.statistics.portion import Portion
from robustbench_med.statistics.readings import Reading
from robustbench_med.statistics.rest import SHOWN_FROM, Gap, against_rest
from robustbench_med.statistics.samples import Drawn, sample
from robustbench_med.statistics.scores import Flags
from robustbench_med.statistics.slices import Slice


@dataclass(frozen=True)
class GroupFindings:
    """Everything said of one group; each sequence has a place per column.

    Attributes:
        group: Whose.
        chosen: `(c,)`, its cases.
        estimates: Of the group.
        patients: Of the group, `(q,)`; likewise `deciding`, see `Portion`.
        counts: `(4, q)`, see `Sample`.
        errors: `(q,)`, standard errors of the estimates.
        draws: `(draws, q)`, studentised resamples of the estimates.
        changes: Probe minus clean in the group.
        interactions: The group's change minus that of the rest.
        gap: From the rest; None where either is too few to compare.
    """

    group: Slice
    chosen: Flags
    estimates: list[Estimate]
    patients: NDArray[np.intp]
    deciding: NDArray[np.intp]
    counts: NDArray[np.int64]
    errors: Floats
    draws: NDArray[np.float32]
    changes: list[Difference]
    interactions: list[Difference]
    gap: Gap | None

    @property
    def compared(self) -> Flags:
        """`(q,)`, whether enough patients stand on both sides of the gap to tell of it."""
        if self.gap is None:
            return np.zeros(len(self.deciding), dtype=bool)
        return np.minimum(self.deciding, self.gap.rest.portion.deciding) >= SHOWN_FROM


def find(readings: Sequence[Reading], drawn: Drawn, group: Slice, chosen: Flags) -> GroupFindings:
    """Estimate a group, hold it against the rest, and see what probes change.

    Args:
        readings: Each with its probes.
        drawn: Patients and their draws.
        group: Its name.
        chosen: `(c,)`, its cases, at least one.
    """
    own = sample(readings, drawn, chosen)
    change, change_draws = changes(readings, own, drawn, chosen)
    gap = against_rest(readings, drawn, own, chosen)
    interactions = [NO_DIFFERENCE] * len(own.estimates)
    if gap is not None:
        of_rest = changes(readings, gap.rest, drawn, ~chosen)
        interactions = _interactions(change, change_draws, *of_rest)
    values, errors = change.values, change.error
    changed = _listed(values, errors, change_draws, change.patients, change.deciding)
    return GroupFindings(
        group,
        chosen,
        own.estimates,
        own.portion.patients,
        own.portion.deciding,
        own.counts,
        own.portion.error,
        own.replicates.studentised(),
        with_flips(readings, change, changed),
        interactions,
        gap,
    )


def _interactions(
    change: Portion, draws: Replicates, other: Portion, other_draws: Replicates
) -> list[Difference]:
    sides = change.error, other.error
    # Patients of whom none changed may change yet: no error, so no interval.
    error = np.where(np.minimum(*sides) > 0, np.hypot(*sides), np.nan)
    with np.errstate(invalid="ignore"):
        values = change.values - other.values
    patients = np.minimum(change.patients, other.patients)
    deciding = np.minimum(change.deciding, other.deciding)
    return _listed(values, error, draws.against(other_draws), patients, deciding)


def _listed(
    values: Floats,
    error: Floats,
    draws: Replicates,
    patients: NDArray[np.intp],
    deciding: NDArray[np.intp],
) -> list[Difference]:
    """By resamples; nothing is told of fewer patients with both values than may be shown."""
    values = np.where(deciding >= SHOWN_FROM, values, np.nan)
    low, high = studentised.limits(values, error, draws)
    p = studentised.p_values(values, error, draws, patients)
    columns = zip(values.tolist(), low.tolist(), high.tolist(), p.tolist(), strict=True)
    return [of_means(*column) for column in columns]

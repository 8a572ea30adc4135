"""All estimates of some of the cases, every metric under every probe, from shared resamples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics import portion, studentised
from robustbench_med.statistics.bootstrap import Counts8, Replicates, replicate
from robustbench_med.statistics.estimate import BOOTSTRAP, Estimate, bare, of_share, within
from robustbench_med.statistics.patients import Ids
from robustbench_med.statistics.portion import Portion
from robustbench_med.statistics.readings import Reading
from robustbench_med.statistics.scores import Flags, Scores


@dataclass(frozen=True)
class Sample:
    """Some of the cases; `q` columns, every reading under every one of its probes.

    Attributes:
        portion: What each patient adds to each column.
        estimates: `q` of them.
        replicates: Of the columns.
        counts: `(4, q)`, cases with a value, undefined, failed, and penalised.
    """

    portion: Portion
    estimates: list[Estimate]
    replicates: Replicates
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Whose the cases are, and how often each patient is drawn.

    Attributes:
        patient_ids: `(c,)`, positions of patients, equal ones side by side.
        table: `(draws, patients)`, from `draw_patients`.
    """

    patient_ids: Ids
    table: Counts8

    def of(self, chosen: Flags) -> Counts8:
        """The draws of the patients that have chosen cases."""
        held = np.unique(self.patient_ids[chosen])
        return self.table if len(held) == self.table.shape[1] else self.table.T[held].T


def sample(readings: Sequence[Reading], drawn: Drawn, chosen: Flags) -> Sample:
    """Estimate every column from the chosen cases.

    Args:
        readings: Each with its probes.
        drawn: Patients and their draws.
        chosen: `(c,)`, at least one.
    """
    portions = [reading.of(drawn.patient_ids, chosen) for reading in readings]
    every = portion.beside(portions)
    replicates = replicate(drawn.of(chosen), every.influence, every.held)
    counts = np.concatenate([_counts(reading.scores, chosen) for reading in readings], axis=1)
    pairs = list(zip(readings, portions, strict=True))
    brought = [_brought(*pair, drawn.patient_ids, chosen) for pair in pairs]
    return Sample(every, _estimates(pairs, brought, every, replicates), replicates, counts)


def _brought(
    reading: Reading, own: Portion, patient_ids: Ids, chosen: Flags
) -> list[Estimate | None]:
    """Estimates of those readings that have better intervals than the bootstrap's."""
    places = range(len(reading.probes))
    if reading.share and own.sums is not None:
        above, below = own.sums.numerator, own.sums.denominator
        return [of_share(above[:, place], below[:, place]) for place in places]
    if reading.interval is None:
        return [None for _ in places]
    return [
        reading.interval(reading.scores, patient_ids, chosen, own, place)
        if own.patients[place]
        else bare(np.nan)
        for place in places
    ]


def _estimates(
    pairs: Sequence[tuple[Reading, Portion]],
    brought: Sequence[list[Estimate | None]],
    every: Portion,
    replicates: Replicates,
) -> list[Estimate]:
    low, high = studentised.limits(every.values, every.error, replicates)
    found: list[Estimate] = []
    for (reading, _), own in zip(pairs, brought, strict=True):
        for made in own:
            column = len(found)
            ends = float(low[column]), float(high[column])
            method = "" if np.isnan(ends[0]) else BOOTSTRAP
            plain = Estimate(float(every.values[column]), *ends, method)
            found.append(within(made or plain, reading.limits))
    return found


def _counts(scores: Scores, chosen: Flags) -> NDArray[np.int64]:
    defined = ~np.isnan(scores.values[chosen])
    failed = scores.failed[chosen]
    undefined = scores.asked[chosen] & ~defined & ~failed
    if scores.among is not None:
        undefined &= scores.among[chosen]
    penalised = np.zeros_like(failed)
    if scores.penalised is not None:
        penalised = scores.penalised[chosen]
    parts = (defined, undefined, failed, penalised)
    return np.stack([np.count_nonzero(part, axis=0) for part in parts])

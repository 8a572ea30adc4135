"""What a probe changes: its value minus the clean value of the same cases."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustbench_med.statistics import portion
from robustbench_med.statistics.bootstrap import Replicates, replicate
from robustbench_med.statistics.patients import Ids
from robustbench_med.statistics.portion import Portion
from robustbench_med.statistics.readings import Reading
from robustbench_med.statistics.samples import Drawn, Sample
from robustbench_med.statistics.scores import Flags, Scores, at

CHANGING = ("attack", "shift", "worst")


def changes(
    readings: Sequence[Reading], own: Sample, drawn: Drawn, chosen: Flags
) -> tuple[Portion, Replicates]:
    """Pair every column with the clean one of its reading, patient by patient.

    Args:
        readings: As `own` was made from.
        own: Sample of the chosen cases.
        drawn: Patients and their draws.
        chosen: `(c,)`.

    Returns:
        The same columns as `own`, NaN for clean itself, for proofs, and where no clean is.
    """
    found, first = [], 0
    for reading in readings:
        places = list(range(first, first + len(reading.probes)))
        columns = portion.column(own.portion, places)
        found.append(_of_reading(reading, columns, drawn.patient_ids, chosen))
        first += len(places)
    change = portion.beside(found)
    return change, replicate(drawn.of(chosen), change.influence, change.held)


def _of_reading(reading: Reading, own: Portion, patient_ids: Ids, chosen: Flags) -> Portion:
    """Each probe minus clean, on the cases that both were put to and neither failed on."""
    probes, ran = reading.probes, reading.scores.ran[chosen]
    clean = [place for place, probe in enumerate(probes) if probe.kind == "clean"]
    if not clean:
        return portion.beside([_nothing(own) for _ in probes])
    alike = (ran == ran[:, clean]).all(axis=0)
    simple = portion.minus(own, portion.column(own, clean * len(probes)))
    columns = [
        _nothing(own)
        if probe.kind not in CHANGING
        else portion.column(simple, [place])
        if alike[place]
        else _paired(reading, own, place, clean[0], patient_ids, chosen)
        for place, probe in enumerate(probes)
    ]
    return portion.beside(columns)


def _paired(
    reading: Reading, own: Portion, place: int, clean: int, patient_ids: Ids, chosen: Flags
) -> Portion:
    ran = reading.scores.ran
    both = ran[:, place] & ran[:, clean]
    if not (both & chosen).any():
        return _nothing(own)
    pair = [place, clean, *_rivals(reading.scores, place)]
    found = reading.measure(restricted(reading.scores, pair, both), patient_ids, chosen)
    return portion.minus(portion.column(found, [0]), portion.column(found, [1]))


def _rivals(scores: Scores, place: int) -> list[int]:
    """Attacks that the worst case of a patient may not be better than; none for other probes."""
    if scores.probes[place].kind != "worst":
        return []
    return [other for other, probe in enumerate(scores.probes) if probe.kind == "attack"]


def restricted(scores: Scores, places: list[int], kept: Flags) -> Scores:
    """Some of the probes, as if they had been put to the kept cases only."""
    rows, found = kept[:, None], at(scores, places)
    parts = None if found.parts is None else np.where(rows, found.parts, np.nan)
    return replace(
        found,
        values=np.where(rows, found.values, np.nan),
        asked=found.asked & rows,
        failed=found.failed & rows,
        parts=parts,
    )


def _nothing(own: Portion) -> Portion:
    absent = np.zeros((len(own.held), 1), dtype=bool)
    influence = np.zeros((len(own.held), 1))
    return Portion(np.array([np.nan]), influence, absent, np.zeros(1, dtype=np.intp))

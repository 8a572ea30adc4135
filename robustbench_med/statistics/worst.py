"""The worst case: per case over everything known inside a ball, and only then aggregated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import Better, Flags, ProbeEntry, Scores, badness


def with_worst(scores: Scores) -> Scores:
    """Add one column per ball: each case's worst value over clean and all attacks of it.

    The clean image lies in every ball. A case counts as asked if an attack of the ball was put
    to it; where all of these failed there the value is NaN, for clean alone would flatter.
    Where some failed, the others decide and `failed` still says so.
    """
    attacks = [probe for probe in scores.probes if probe.kind == "attack" and probe.ball]
    balls = list(dict.fromkeys(probe.ball for probe in attacks))
    for ball in balls:
        names = [probe.name for probe in attacks if probe.ball == ball]
        level = next(probe.level for probe in attacks if probe.ball == ball)
        scores = _with_ball(scores, names, ProbeEntry(f"worst[{ball}]", "worst", level, ball))
    return scores


def worst_of(values: Floats, ran: Flags, better: Better) -> NDArray[np.intp]:
    """Say which of several candidates is worst for each case; the first among equals.

    Defined values come before undefined ones, and among undefined ones those that ran.

    Args:
        values: `(c, candidates)`, NaN where undefined.
        ran: `(c, candidates)`, whether the candidate ran and did not fail.
        better: What a good value is.

    Returns:
        `(c,)`, positions of candidates.
    """
    bad = badness(values, better)
    undefined = np.isnan(bad)
    order = np.lexsort([-np.where(undefined, 0.0, bad), ~ran, undefined], axis=1)
    return order[:, 0]


def _with_ball(scores: Scores, attacks: Sequence[str], added: ProbeEntry) -> Scores:
    places = {probe.name: place for place, probe in enumerate(scores.probes)}
    tried = [places[name] for name in attacks]
    every = [place for place, probe in enumerate(scores.probes) if probe.kind == "clean"] + tried
    asked = scores.asked[:, tried].any(axis=1)
    ran = scores.ran
    covered = ran[:, tried].any(axis=1)
    rows = np.arange(len(scores.asked))
    worst = worst_of(scores.values[:, every], ran[:, every], scores.meaning.better)
    chosen = np.array(every)[worst]
    values = np.where(covered, scores.values[rows, chosen], np.nan)
    parts = scores.parts
    if parts is not None:
        picked = np.where(covered, parts[:, rows, chosen], np.nan)
        parts = np.concatenate([parts, picked[:, :, None]], axis=2)
    penalised = scores.penalised
    if penalised is not None:
        penalised = np.column_stack([penalised, covered & penalised[rows, chosen]])
    return replace(
        scores,
        probes=(*scores.probes, added),
        values=np.column_stack([scores.values, values]),
        asked=np.column_stack([scores.asked, asked]),
        failed=np.column_stack([scores.failed, asked & scores.failed[:, every].any(axis=1)]),
        parts=parts,
        penalised=penalised,
    )

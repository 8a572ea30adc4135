"""All estimates of some of the cases, under every metric and probe, from shared resamples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats, resample
from robustbench_med.statistics.estimate import Estimate, of_mean, of_share
from robustbench_med.statistics.patients import Ids, beside, patient_sums
from robustbench_med.statistics.scores import Flags, Scores


@dataclass(frozen=True)
class Sample:
    """Some of the cases; `q` columns, every metric under every one of its probes.

    Attributes:
        estimates: `q` of them.
        draws: `(draws, q)`, resampled values.
        cases: `(q,)`, cases with a defined value.
        failed: `(q,)`, cases where the probe failed.
    """

    estimates: list[Estimate]
    draws: Floats
    cases: NDArray[np.int64]
    failed: NDArray[np.int64]


def sample(
    scores: Sequence[Scores], patient_ids: Ids, chosen: Flags, rng: np.random.Generator
) -> Sample:
    """Estimate every column from the chosen cases, drawing among their patients.

    Args:
        scores: One per metric, `(c, probes)` each.
        patient_ids: `(c,)`, equal ids side by side.
        chosen: `(c,)`, at least one.
        rng: Draws the patients.
    """
    sums = beside([patient_sums(found, patient_ids, chosen) for found in scores])
    draws = resample(sums.numerator, sums.denominator, rng)
    defined, undefined, failed = np.concatenate([_counts(s, chosen) for s in scores], axis=1)
    shares = [found.zero_one for found in scores for _ in found.probes]
    estimates = []
    for column, share in enumerate(shares):
        above, below = sums.numerator[:, column], sums.denominator[:, column]
        absent = int(undefined[column])
        if share:
            estimates.append(of_share(above, below, absent))
        else:
            estimates.append(of_mean(above, below, draws[:, column], absent))
    return Sample(estimates, draws, defined, failed)


def _counts(scores: Scores, chosen: Flags) -> NDArray[np.int64]:
    defined = ~np.isnan(scores.values[chosen])
    failed = scores.failed[chosen]
    undefined = scores.asked[chosen] & ~defined & ~failed
    return np.stack([part.sum(axis=0) for part in (defined, undefined, failed)])

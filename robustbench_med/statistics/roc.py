"""Points of an ROC curve, few enough to draw."""

import numpy as np

from robustbench_med.statistics.bootstrap import Floats
from robustbench_med.statistics.scores import Counts, Flags


def roc_points(score: Floats, positive: Flags, most: int = 200) -> tuple[Floats, Floats]:
    """False and true positive rates at falling thresholds, from (0, 0) to (1, 1).

    First the points on a straight line between their neighbours go. If more than `most` are
    left, those nearest to equal steps along the curve stay, so that no dropped point lies
    farther than 2 / (`most` - 1) (sum of both rates) from a kept one. Both ends always stay.

    Args:
        score: `(c,)`, finite, higher for the class.
        positive: `(c,)`, whether the class is present.
        most: Points at most, at least 2.

    Returns:
        Two `(points,)`, none falling; empty if a class is missing.

    Source: Fawcett, Pattern Recognition Letters 2006, 27:861-874, algorithm 1.
    """
    positives = int(positive.sum())
    if not positives or positives == len(positive):
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-score)
    ends = np.append(np.diff(score[order]) != 0, True)
    hits = np.append(0, np.cumsum(positive[order])[ends])
    called = np.append(0, np.flatnonzero(ends) + 1)
    corners = _corners(called - hits, hits)
    false_rate = (called - hits)[corners] / (len(positive) - positives)
    true_rate = hits[corners] / positives
    kept = _spread(false_rate + true_rate, most)
    return false_rate[kept], true_rate[kept]


def _corners(across: Counts, up: Counts) -> Flags:
    """Say which points, counted in whole cases, do not lie straight between their neighbours."""
    right, rise = np.diff(across), np.diff(up)
    bends = right[1:] * rise[:-1] != right[:-1] * rise[1:]
    return np.concatenate([[True], bends, [True]])


def _spread(length: Floats, most: int) -> Counts:
    if len(length) <= most:
        return np.arange(len(length))
    steps = np.linspace(0, length[-1], most)
    after = np.searchsorted(length, steps).clip(1, len(length) - 1)
    nearer = steps - length[after - 1] < length[after] - steps
    return np.unique(after - nearer)

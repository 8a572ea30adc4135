"""Exact tests of shares that are known from counts of independent trials."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def lower_limit(successes: int, trials: int, alpha: float) -> float:
    """One-sided lower limit of a share: it lies above the share with probability at most `alpha`.

    Source: Clopper and Pearson, Biometrika 1934, 26:404-413, by a quantile of the beta law.
    """
    if successes == 0:
        return 0.0
    return float(stats.beta.ppf(alpha, successes, trials - successes + 1))


def p_values(successes: ArrayLike, trials: int, share: float) -> Floats:
    """Chance of at least that many successes if the true share is `share`, exactly.

    Small where the share must be larger. It is at most `alpha` where `lower_limit` at `alpha` is
    at least `share`, and only there.

    Args:
        successes: Whole numbers from 0 to `trials`, of any shape.
        trials: At least 1.
        share: In [0, 1].
    """
    counts = np.arange(1, trials + 1)
    table = np.concatenate([[1.0], stats.beta.cdf(share, counts, trials - counts + 1)])
    looked_up: Floats = table[np.asarray(successes)]
    return looked_up


def holm(p: Floats, alpha: float) -> Flags:
    """Which of `n` hypotheses, `(n,)`, to reject so that any is falsely with chance <= `alpha`.

    Holds however the tests depend on each other.

    Source: Holm, Scand. J. Stat. 1979, 6:65-70.
    """
    rising = np.argsort(p, kind="stable")
    fails = p[rising] > alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[rising[: np.argmax(fails) if fails.any() else len(p)]] = True
    return rejected


def bonferroni(p: Floats, alpha: float) -> Flags:
    """As `holm`, in one step; never rejects more."""
    return np.asarray(p <= alpha / max(len(p), 1))

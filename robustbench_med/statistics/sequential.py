"""Looking at a stream of results as often as one likes, at one price."""

import numpy as np
from scipy import special

from robustbench_med.errors import InputError
from robustbench_med.statistics.bootstrap import Floats

# shares of the largest bet allowed; geometric, so that small and large drifts are both covered
BETS = np.geomspace(0.003, 0.95, 24)
LARGEST_EXPONENT = 700.0


def betting_e_process(values: Floats, goal: float) -> Floats:
    """Evidence, after each patient, against "the mean is at least the goal".

    The wealth of someone who starts with 1 and bets on values below the goal: the mean over a
    fixed grid of bets of `prod(1 + bet (goal - value))`. If the claim holds, the chance that it
    ever reaches `1 / alpha` is at most `alpha` (Ville), however often one looks and whenever one
    stops; `1 / max` so far is a p-value at any time. For a failure rate that must not exceed a
    limit give `1 - failed` and `1 - limit`.

    Args:
        values: `(n,)`, in [0, 1], one per patient, in order of arrival.
        goal: Between 0 and 1. If the claim holds, each value's mean given those before it must
            be at least this: patients are new ones, none is asked twice.

    Returns:
        `(n,)`, above 0.

    Raises:
        InputError: If a value or the goal lies outside its range.

    Source: Waudby-Smith and Ramdas, J. R. Stat. Soc. B 2024, 86:1-27 (testing a bounded mean by
        betting; a fixed mixture of bets); Ville, Etude critique de la notion de collectif, 1939.
    """
    if not 0 < goal < 1:
        raise InputError(f"e-process: goal must lie between 0 and 1, got {goal}")
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        place = wrong[0]
        raise InputError(f"e-process: expected values in [0, 1], got {values[place]} at {place}")
    # a bet of 1 / (1 - goal) would lose everything on a single value of 1
    gains = np.log1p((goal - values)[:, None] * (BETS / (1 - goal)))
    wealth = special.logsumexp(np.cumsum(gains, axis=0), axis=1, b=1 / len(BETS))
    return np.asarray(np.exp(np.minimum(wealth, LARGEST_EXPONENT)))

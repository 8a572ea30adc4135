"""What chance alone would do: patients dealt anew to the splits, and p-values from that."""

import numpy as np

from robustbench_med.overlap.picture import Floats
from robustbench_med.overlap.traits import Flags

DRAWS = 999
LEVEL = 0.05


def dealt_sums(columns: Floats, in_test: Flags, rng: np.random.Generator) -> Floats:
    """Sum columns over the test patients, then over as many drawn from both splits.

    Args:
        columns: `(p, k)`.
        in_test: `(p,)`.
        rng: Draws the patients.

    Returns:
        `(1 + 999, k)`; the first row is as it is.
    """
    size = int(in_test.sum())
    dealt = (rng.permutation(len(columns))[:size] for _ in range(DRAWS))
    return np.stack([columns[chosen].sum(axis=0) for chosen in (in_test, *dealt)])


def p_value(statistics: Floats) -> float:
    """Share of the draws that are as great as the first value, which counts as one of them.

    Source: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 2010,
        DOI 10.2202/1544-6115.1585.
    """
    # sums in another order differ in the last bits; a tie is a tie
    reached = statistics >= statistics[0] - 1e-9 * max(1.0, abs(float(statistics[0])))
    return float(reached.mean())


def by_chance(statistics: Floats) -> float:
    """Return what 19 draws of 20 stay below: a smaller difference could not be told."""
    return float(np.quantile(statistics[1:], 1 - LEVEL))


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values so that the chance of any false alarm among them keeps its level.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = greatest
    return adjusted

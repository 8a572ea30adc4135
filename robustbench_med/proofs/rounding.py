"""How far a float64 sum of products may lie from the true one, whatever the order of summation."""

import numpy as np

from robustbench_med.proofs.network import Floats

EPSILON = 2.0**-52
TINY = 1e-290


def rounding(terms: int) -> float:
    """Bound the relative error of a sum of products.

    In float64, rounded to nearest with unit u = 2^-53, a sum of n products computed in any order,
    with or without fused multiply-add, differs from the true one by at most g_n times the sum of
    the absolute products, g_n = n u / (1 - n u). What is returned, (n + 8) 2 u, is above 1.9 g_n +
    15 u for every n below 10^14: nearly twice as much as is needed, so that the sum of absolute
    products may itself be computed in float64, and so that a few roundings before and after are
    covered. Underflow, gradual or flushed to zero, adds at most n 2^-1022: that is what `TINY` is
    for.

    Args:
        terms: How many products are summed, a bias counted as one.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1, (3.4)
        to (3.5); Rump, Acta Numerica 19 (2010), sections 5 and 9.
    """
    return (terms + 8) * EPSILON


def centred(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Find a middle and a reach about it that take in everything from `low` to `high`."""
    middle = low / 2 + high / 2
    reach = np.maximum(high - middle, middle - low)
    return middle, reach * (1 + 4 * EPSILON) + TINY


def least(rows: Floats, low: Floats, high: Floats) -> Floats:
    """Bound linear functions from below over a box, rounded downwards.

    With middle c and reach d the least value is `rows @ c - |rows| @ d`; the products with c and
    with d are each wrong by at most g_n of their absolute sums, which widens d.

    Args:
        rows: `(r, n)`.
        low: `(n,)`.
        high: `(n,)`.

    Returns:
        `(r,)`.
    """
    middle, reach = centred(low, high)
    wide = reach + rounding(len(middle)) * (np.abs(middle) + reach)
    return lowered(rows @ middle - np.abs(rows) @ wide)


def least_in_ball(rows: Floats, centre: Floats, radius: Floats, free: Floats) -> Floats:
    """Bound linear functions from below over an l2 ball, rounded downwards.

    Args:
        rows: `(r, n)`.
        centre: `(n,)`; where `free` is 0, the only value there is.
        radius: `()`.
        free: `(n,)`, 1 for what may change and 0 for what may not.

    Returns:
        `(r,)`.
    """
    error = rounding(len(centre))
    steep = np.sqrt(np.square(rows) @ free) * (1 + error)
    # Squares below the smallest float vanish: each hides less than 1e-150 of its coefficient.
    steep = (steep + 1e-150 * np.sqrt(len(centre))) * radius
    return lowered(rows @ centre - steep * (1 + error) - error * (np.abs(rows) @ np.abs(centre)))


def lowered(values: Floats) -> Floats:
    """Round differences downwards past the rounding of their last subtraction.

    What overflowed says nothing, and becomes minus infinity.
    """
    return np.where(np.isfinite(values), np.nextafter(values, -np.inf) - TINY, -np.inf)

"""Whether an attribute and the truth go together in a split, so that one may pass as the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_med.overlap.permutation import DRAWS, by_chance, holm, p_value
from robustbench_med.overlap.picture import Floats
from robustbench_med.overlap.traits import MISSING, Trait

BANDS = 4


@dataclass(frozen=True)
class Confounding:
    """How closely an attribute goes with a label.

    Attributes:
        attribute: Its name.
        label: Name of the class, finding, value or size.
        v: Cramer's V, 0 where they have nothing to do with each other, 1 where one gives the
            other away.
        chance: What V rarely exceeds where they have nothing to do with each other.
        p: Of V, by dealing the attribute anew among patients.
        p_holm: The same, adjusted for all pairs.
        patients: Of whom both are known.
    """

    attribute: str
    label: str
    v: float
    chance: float
    p: float
    p_holm: float
    patients: int


def confounding(
    attributes: Sequence[Trait], labels: Sequence[Trait], rng: np.random.Generator
) -> tuple[Confounding, ...]:
    """Measure every attribute against every label of one split's patients.

    Numbers are cut at their quartiles. A patient whose cases differ counts in shares. Patients
    with either not recorded are left out; pairs that do not vary then are, too.

    Source: Cramer, Mathematical Methods of Statistics, 1946, section 21.9.
    """
    found = []
    for attribute in attributes:
        for label in labels:
            ours, theirs = _shares(attribute), _shares(label)
            both = (ours.sum(axis=1) > 0) & (theirs.sum(axis=1) > 0)
            ours, theirs = _varying(ours[both]), _varying(theirs[both])
            if min(ours.shape[1], theirs.shape[1]) < 2:
                continue
            values = _dealt(ours, theirs, rng)
            found.append((attribute.name, label.name, values, int(both.sum())))
    p_values = [p_value(values) for _, _, values, _ in found]
    return tuple(
        Confounding(attribute, label, float(values[0]), by_chance(values), p, adjusted, patients)
        for (attribute, label, values, patients), p, adjusted in zip(
            found, p_values, holm(p_values), strict=True
        )
    )


def cramers_v(table: Floats) -> float:
    """Return Cramer's V of a table of counts or shares `(a, b)` without empty rows or columns."""
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    squares = float(((table - expected) ** 2 / expected).sum())
    return math.sqrt(max(0.0, squares) / (total * (min(table.shape) - 1)))


def _dealt(ours: Floats, theirs: Floats, rng: np.random.Generator) -> Floats:
    """V as it is, and after each deal of the attribute among the patients."""
    values = [cramers_v(ours.T @ theirs)]
    values += [cramers_v(rng.permutation(ours).T @ theirs) for _ in range(DRAWS)]
    return np.array(values)


def _shares(trait: Trait) -> Floats:
    """`(p, k)`, shares that sum to 1, or to 0 where nothing is recorded."""
    if trait.values:
        told = [k for k, value in enumerate(trait.values) if value != MISSING]
        shares: Floats = trait.columns[:, told]
        total = shares.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(shares, total, out=np.zeros_like(shares), where=total > 0))
    known = trait.known
    shares = np.zeros((len(known), BANDS))
    if known.any():
        values = trait.columns[known, 0]
        edges = np.quantile(values, np.arange(1, BANDS) / BANDS)
        shares[np.flatnonzero(known), np.searchsorted(edges, values, side="left")] = 1.0
    return shares


def _varying(shares: Floats) -> Floats:
    return np.asarray(shares[:, shares.sum(axis=0) > 0])

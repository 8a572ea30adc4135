"""Whether a simple classifier can tell the images of two splits apart, and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from robustbench_med.overlap.permutation import by_chance, p_value
from robustbench_med.overlap.picture import Floats
from robustbench_med.overlap.traits import Flags, Trait, Units

DRAWS = 499
FOLDS = 5
PENALTY = 1.0
STEPS = 15
LEAST = 20
"""Patients in each split; fewer give a test that finds nothing but the grossest difference."""


@dataclass(frozen=True)
class Separation:
    """How well the splits' images can be told apart.

    Attributes:
        auc: Chance that the classifier ranks a test patient above a training patient, each
            judged by a classifier that has not seen them; 0.5 where it cannot tell.
        chance: What that rarely exceeds where there is nothing to tell.
        p: By patients dealt anew to the splits.
        patients: In both splits.
    """

    auc: float
    chance: float
    p: float
    patients: int


def separation(
    traits: Sequence[Trait], units: Units, rng: np.random.Generator
) -> Separation | None:
    """Test whether the patients' mean features tell which split they are in.

    Ridge logistic regression on standardised features, cross-validated in five parts; both
    units of a patient who is in both splits are in one part. None with fewer than 20 patients
    in a split.

    Source: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017.
    """
    if not traits:
        return None
    columns = np.stack([trait.columns[:, 0] for trait in traits], axis=1)
    known = np.logical_and.reduce([trait.known for trait in traits])
    labels, features = units.in_test[known], columns[known]
    if min(int(labels.sum()), int((~labels).sum())) < LEAST:
        return None
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    dealt = [labels, *(rng.permutation(labels) for _ in range(DRAWS))]
    targets = np.stack(dealt, axis=1).astype(np.float64)
    parts = rng.integers(0, FOLDS, int(units.patient.max()) + 1)[units.patient[known]]
    scores = np.zeros_like(targets)
    for part in range(FOLDS):
        weights = logistic(_with_one(standard[parts != part]), targets[parts != part])
        scores[parts == part] = _with_one(standard[parts == part]) @ weights
    found = np.array([auc(scores[:, i], targets[:, i] > 0) for i in range(targets.shape[1])])
    return Separation(float(found[0]), by_chance(found), p_value(found), len(labels))


def logistic(rows: Floats, targets: Floats) -> Floats:
    """Fit ridge logistic regressions of many targets on the same rows, by Newton's method.

    Args:
        rows: `(n, d)`; the last column is 1 and is not penalised.
        targets: `(n, t)`, 0 or 1.

    Returns:
        `(d, t)`, weights that maximise log likelihood less half the penalty's squares.
    """
    width = rows.shape[1]
    penalty = np.full(width, PENALTY)
    penalty[-1] = 1e-6
    products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    weights = np.zeros((width, targets.shape[1]))
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (targets - chance) - penalty[:, None] * weights
        curve = (products.T @ (chance * (1 - chance))).T.reshape(-1, width, width)
        step = np.linalg.solve(curve + np.diag(penalty), slope.T[:, :, None])[:, :, 0].T
        weights = weights + step
        if float(np.abs(step).max()) < 1e-9:
            break
    return weights


def auc(scores: Floats, positive: Flags) -> float:
    """Chance that a positive scores higher than a negative; ties count half.

    Source: Hanley and McNeil, Radiology 1982, DOI 10.1148/radiology.143.1.7063747.
    """
    ranks: NDArray[np.float64] = rankdata(scores)
    ahead = int(positive.sum())
    above = ranks[positive].sum() - ahead * (ahead + 1) / 2
    return float(above / (ahead * (len(scores) - ahead)))


def _with_one(rows: Floats) -> Floats:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)

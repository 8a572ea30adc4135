"""How far two splits differ in what is recorded of their patients and in their truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_med.overlap.permutation import by_chance, dealt_sums, holm, p_value
from robustbench_med.overlap.picture import Floats
from robustbench_med.overlap.traits import OTHERS, Flags, Trait, Units

FEW = 10
"""Below so many patients nothing is counted out."""
Json = dict[str, object]


@dataclass(frozen=True)
class Difference:
    """How one trait differs between the splits.

    Attributes:
        trait: What is compared.
        distance: Total variation distance in [0, 1]; for a number, the standardised mean
            difference, positive where the test split's is larger; NaN where it has no spread.
        chance: What that distance, taken without sign, rarely exceeds by chance.
        p: Of the distance, by patients dealt anew.
        p_holm: The same, adjusted for all traits compared beside it.
    """

    trait: Trait
    distance: float
    chance: float
    p: float
    p_holm: float


def differences(
    traits: Sequence[Trait], units: Units, rng: np.random.Generator
) -> tuple[Difference, ...]:
    """Compare every trait, from the same deals; each patient counts once.

    Source: total variation distance and its permutation test: Lehmann and Romano, Testing
        Statistical Hypotheses, 3rd ed. 2005, section 15.2; standardised mean difference:
        Cohen, Statistical Power Analysis, 2nd ed. 1988, chapter 2.
    """
    if not traits:
        return ()
    columns = np.concatenate([trait.columns for trait in traits], axis=1)
    sums = dealt_sums(columns, units.in_test, rng)
    found, start = [], 0
    for trait in traits:
        width = trait.columns.shape[1]
        found.append(_statistics(trait, sums[:, start : start + width], units))
        start += width
    p_values = [p_value(draws) for _, draws in found]
    return tuple(
        Difference(trait, distance, by_chance(draws), p, adjusted)
        for trait, (distance, draws), p, adjusted in zip(
            traits, found, p_values, holm(p_values), strict=True
        )
    )


def _statistics(trait: Trait, sums: Floats, units: Units) -> tuple[float, Floats]:
    """The distance as it is, and its size under every deal."""
    rest = trait.columns.sum(axis=0) - sums
    if trait.values:
        size = int(units.in_test.sum())
        shares = sums / size - rest / (len(units.in_test) - size)
        distances = np.abs(shares).sum(axis=1) / 2
        return float(distances[0]), distances
    both = (sums[:, 1] > 0) & (rest[:, 1] > 0)
    mean = np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=both)
    other = np.divide(rest[:, 0], rest[:, 1], out=np.zeros(len(sums)), where=both)
    gaps = mean - other
    # the deals are compared by the gap; one spread for all of them scales it
    spread = _spread(trait, units.in_test)
    if not spread > 0 or not both[0]:
        return math.nan, np.zeros(len(sums))
    return float(gaps[0]) / spread, np.abs(gaps) / spread


def _spread(trait: Trait, in_test: Flags) -> float:
    """Standard deviation within the splits; over both, where neither has any."""
    sides = [trait.columns[trait.known & side, 0] for side in (in_test, ~in_test)]
    within = [float(side.var(ddof=1)) for side in sides if len(side) > 1]
    pooled = math.sqrt(sum(within) / len(within)) if within else 0.0
    everyone = trait.columns[trait.known, 0]
    return pooled if pooled > 0 or not len(everyone) else float(everyone.std())


def as_json(difference: Difference, units: Units) -> Json:
    """Say it in plain values: None where undefined, or where fewer than 10 patients are behind."""
    trait = difference.trait
    shown: Json = {
        "name": trait.name,
        "kind": "shares" if trait.values else "number",
        "distance": None if math.isnan(difference.distance) else difference.distance,
        "chance": difference.chance, "p": difference.p, "p_holm": difference.p_holm,
    }  # fmt: skip
    if trait.values:
        return {**shown, "values": _values(trait, units.in_test)}
    sides = {"test": units.in_test, "train": ~units.in_test}
    return {**shown, **{name: _quantiles(trait, side) for name, side in sides.items()}}


def _values(trait: Trait, in_test: Flags) -> list[Json]:
    """Values of ten patients or more in a split by name, the others as one."""
    held = trait.columns > 0
    most = np.maximum(held[in_test].sum(axis=0), held[~in_test].sum(axis=0))
    named = [k for k, value in enumerate(trait.values) if value != OTHERS and int(most[k]) >= FEW]
    rest = [k for k in range(len(trait.values)) if k not in named]
    groups = [(trait.values[k], [k]) for k in named]
    if rest:
        groups.append((OTHERS, rest))
    return [_value(name, trait.columns[:, ks].sum(axis=1), in_test) for name, ks in groups]


def _value(name: str, share: Floats, in_test: Flags) -> Json:
    shown: Json = {"value": name}
    for split, side in (("test", in_test), ("train", ~in_test)):
        patients = int((share[side] > 0).sum())
        told = patients == 0 or patients >= FEW
        shown[split] = float(share[side].mean()) if told else None
        shown[f"{split}_patients"] = patients if told else None
    return shown


def _quantiles(trait: Trait, side: Flags) -> Json | None:
    values = trait.columns[trait.known & side, 0]
    if len(values) < FEW:
        return None
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
    return {"patients": len(values), "low": low, "median": middle, "high": high}

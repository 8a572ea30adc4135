"""How far two splits differ, and what goes with the truth in the tested one, in plain values."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from robustbench_med.overlap.confounding import confounding
from robustbench_med.overlap.divergence import Json, as_json, differences
from robustbench_med.overlap.features import FEATURES
from robustbench_med.overlap.seen import Seen
from robustbench_med.overlap.traits import Trait, Units, trait_of, traits_of
from robustbench_med.overlap.twosample import separation


def shift(test: Seen, train: Seen, rng: np.random.Generator) -> Json:
    """Compare attributes, truth and images of two splits; each of the three is one family.

    Returns:
        `attributes`, `labels` and `features`: a row each per trait; `separation`: whether images
        can be told apart, None with too few patients; `confounding`: pairs of an attribute and
        a label in the tested split.
    """
    units = Units.of(test, train)
    attributes = traits_of([*test.attributes, *train.attributes], units)
    labels = traits_of([*test.truths, *train.truths], units)
    features = _features(test, train, units)
    apart = separation(features, units, rng)
    pairs = confounding(_tested(attributes, units), _tested(labels, units), rng)
    tables = {"attributes": attributes, "labels": labels, "features": features}
    compared = {
        name: [as_json(found, units) for found in differences(traits, units, rng)]
        for name, traits in tables.items()
    }
    return {
        **compared,
        "separation": None if apart is None else asdict(apart),
        "confounding": [asdict(pair) for pair in pairs],
    }


def _features(test: Seen, train: Seen, units: Units) -> list[Trait]:
    rows = [seen.features.get(index) for seen in (test, train) for index in range(len(seen))]
    made = [
        trait_of(name, [None if row is None else float(row[place]) for row in rows], units)
        for place, name in enumerate(FEATURES)
    ]
    return [trait for trait in made if trait.varies]


def _tested(traits: Sequence[Trait], units: Units) -> list[Trait]:
    return [trait.of(units.in_test) for trait in traits]

"""Fit the forest of a plan: weights and card go where its model table says.

A forest has no gradient to follow, so `rbmed train` cannot teach it; everything else takes what
this writes like any other weights.

    python examples/systems/fit_forest.py examples/systems/forest.toml [--pixels 1024]
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from robustbench_med.errors import InputError, RobustbenchMedError
from robustbench_med.models import build_network, save_model
from robustbench_med.networks.forest import Forest
from robustbench_med.networks.forest_fit import fit_forest
from robustbench_med.plan import Plan, load_plan
from robustbench_med.questions import build_cohort
from robustbench_med.training.card import write_card
from robustbench_med.training.settings import TrainSettings

PIXELS = 1024  # of each case


def fit(plan: Plan, pixels: int = PIXELS) -> Path:
    """Grow the trees on the plan's training split, and return where the weights are."""
    if plan.model.get("use") != "forest" or "weights" not in plan.model:
        raise InputError(
            f"plan {plan.name!r}: expected model = {{ use = 'forest', weights = ... }}"
        )
    cohort = build_cohort(plan, "train")
    network = build_network(plan.model, cohort)
    if not isinstance(network, Forest):
        raise InputError(f"plan {plan.name!r}: expected a forest, got {type(network).__name__}")
    fit_forest(network, cohort, pixels=pixels, seed=plan.seed)
    weights = plan.folder / plan.model["weights"]
    card = save_model(weights, plan.model, network, cohort, TrainSettings(), [])
    # No step was made: the card tells how the trees grew instead.
    write_card(weights, replace(card, training={"pixels": pixels, "seed": plan.seed}))
    return weights


def main() -> int:
    """Fit and say where the weights are."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("plan", type=Path)
    options.add_argument("--pixels", type=int, default=PIXELS, help="of each case")
    asked, started = options.parse_args(), time.perf_counter()
    try:
        weights = fit(load_plan(asked.plan), asked.pixels)
    except RobustbenchMedError as error:
        print(f"fit_forest: {error}", file=sys.stderr)
        return error.exit_code
    print(f"fitted in {time.perf_counter() - started:.0f} s: {weights}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

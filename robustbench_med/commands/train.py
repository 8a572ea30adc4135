"""`rbmed train PLAN`: train the plan's network; weights and model card where the plan says."""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.models import build_network, network_settings, pick_device, save_model
from robustbench_med.operating import calibrate, calibrating, told
from robustbench_med.plan import Plan, load_plan
from robustbench_med.questions import build_cohort
from robustbench_med.training.card import Card, cohort_digest, read_card
from robustbench_med.training.loop import train
from robustbench_med.training.network import card_settings
from robustbench_med.training.settings import TrainSettings, with_defaults
from robustbench_med.training.weights import file_sha256


def main(options: argparse.Namespace) -> int:
    """Train and say where the weights are; trained already, say that."""
    plan = load_plan(options.plan)
    card, fresh = train_plan(plan, quiet=options.quiet)
    weights = _weights(plan)
    points = card.operating_points if plan.calibrate else {}
    if options.json:
        done = {"weights": str(weights), "fresh": fresh, "curve": list(card.curve)}
        print(json.dumps({**done, "operating_points": points}))
        return 0
    last = card.curve[-1]
    print(f"{'trained' if fresh else 'trained before, nothing to do'}: {weights}")
    print(f"{card.parameters} parameters, {len(card.curve)} epochs, last loss {last['loss']:.4g}")
    for name, point in points.items():
        print(textwrap.fill(f"{name}: threshold {point['threshold']:.4g}; {told(point)}", 80))
    return 0


def train_plan(plan: Plan, *, quiet: bool) -> tuple[Card, bool]:
    """Train the plan's network unless its weights are there, from the same data and settings.

    Thresholds that the plan asks for are fixed too, unless the model's card has them.

    Returns:
        The model card, and whether anything was trained.

    Raises:
        InputError: If the plan has no `[train]` table or names no weights to write, or its
            calibration split gives no threshold.
    """
    waiting = calibrating(plan)
    card, fresh = _train(plan, quiet=quiet)
    if waiting is not None and plan.calibrate is not None:
        card = calibrate(plan, plan.calibrate, card, *waiting)
    return card, fresh


def _train(plan: Plan, *, quiet: bool) -> tuple[Card, bool]:
    weights, settings = _weights(plan), _settings(plan)
    cohort = build_cohort(plan, "train")
    before = trained_before(plan, cohort)
    if before is not None:
        return before, False
    network = build_network(plan.model, cohort, seed=settings.seed)
    unfinished = weights.with_suffix(".checkpoint")
    total = settings.epochs
    curve = train(
        network,
        cohort,
        settings,
        folder=unfinished,
        device=pick_device(plan.device),
        on_epoch=lambda row: _tell(row, total, quiet=quiet),
    )
    card = save_model(weights, plan.model, network.cpu(), cohort, settings, curve)
    shutil.rmtree(unfinished, ignore_errors=True)
    return card, True


def _weights(plan: Plan) -> Path:
    weights = plan.model.get("weights")
    if not isinstance(weights, str):
        raise InputError(f"plan {plan.name!r}: model: expected weights = FILE.safetensors to write")
    return plan.folder / weights


def _settings(plan: Plan) -> TrainSettings:
    if plan.train is None:
        raise InputError(f"plan {plan.name!r}: has no [train] table, so nothing to train")
    return TrainSettings(**({"seed": plan.seed} | dict(plan.train)))


def trained_before(plan: Plan, cohort: Cohort) -> Card | None:
    """Card of the plan's weights if they are there, made from `cohort` with the same settings."""
    weights, settings = _weights(plan), _settings(plan)
    card = read_card(weights) if weights.is_file() else None
    if card is None or card.weights_sha256 != file_sha256(weights):
        return None
    same = (
        card.cohort_digest == cohort_digest(cohort)
        and with_defaults(card.training) == settings.described()
        and card.network == plan.model["use"]
        and card_settings(card) == network_settings(plan.model, cohort)
    )
    return card if same else None


def _tell(row: Mapping[str, float], total: int, *, quiet: bool) -> None:
    if not quiet:
        left = (total - row["epoch"]) * row["seconds"]
        print(
            f"epoch {row['epoch']:.0f}/{total}, loss {row['loss']:.4g}, {left:.0f} s left",
            file=sys.stderr,
        )

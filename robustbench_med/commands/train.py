"""`rbmed train PLAN`: train the plan's network; weights, card and curve where the plan says."""

import argparse
import json
import shutil
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

from torch import nn

from robustbench_med.cases import Cohort
from robustbench_med.commands.curve import write_curve
from robustbench_med.commands.training_line import TrainingLine
from robustbench_med.errors import InputError, RobustbenchMedError
from robustbench_med.models import build_network, network_settings, pick_device, save_model
from robustbench_med.operating import calibrate, calibrating, told
from robustbench_med.plan import Plan, load_plan
from robustbench_med.questions import build_cohort, build_other
from robustbench_med.shipped import is_shipped
from robustbench_med.training.card import Card, cohort_digest, read_card
from robustbench_med.training.checkpoint import Row
from robustbench_med.training.distributed import here, joined
from robustbench_med.training.loop import train
from robustbench_med.training.network import card_settings
from robustbench_med.training.settings import TrainSettings, with_defaults
from robustbench_med.training.weights import file_sha256
from robustbench_med.training.workers import suitable_workers

FIRST_TELLS_S = 3.0


def main(options: argparse.Namespace) -> int:
    """Train and say where the weights are; trained already, say that."""
    plan = load_plan(options.plan)
    with joined(pick_device(plan.device)) as device:
        if here().rank > 0:
            return _follow(plan, device)
        card, fresh = train_plan(plan, quiet=options.quiet, device=device)
    weights = _weights(plan)
    points = card.operating_points if plan.calibrate else {}
    if options.json:
        done = {"weights": str(weights), "fresh": fresh, "curve": list(card.curve)}
        print(json.dumps({**done, "operating_points": points}))
        return 0
    last = card.curve[-1]
    print(f"{'trained' if fresh else 'trained before, nothing to do'}: {weights}")
    print(f"{card.parameters} parameters, {len(card.curve)} epochs, last loss {last['loss']:.4g}")
    if "best_epoch" in last:
        print(f"kept: epoch {last['best_epoch']:.0f}, of the lowest validation loss")
    for name, point in points.items():
        print(textwrap.fill(f"{name}: threshold {point['threshold']:.4g}; {told(point)}", 80))
    return 0


def train_plan(plan: Plan, *, quiet: bool, device: str | None = None) -> tuple[Card, bool]:
    """Train the plan's network unless its weights are there, from the same data and settings.

    Thresholds that the plan asks for are fixed too, unless the model's card has them.

    Returns:
        The model card, and whether anything was trained.

    Raises:
        InputError: If the plan has no `[train]` table or names no weights to write, or its
            calibration split gives no threshold.
    """
    waiting = calibrating(plan)
    card, fresh = _train(plan, device or pick_device(plan.device), quiet=quiet)
    if waiting is not None and plan.calibrate is not None:
        card = calibrate(plan, plan.calibrate, card, *waiting)
    return card, fresh


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
        and (settings.patience is None or card.validation_digest == _validation_digest(plan))
    )
    return card if same else None


def _train(plan: Plan, device: str, *, quiet: bool) -> tuple[Card, bool]:
    cohort = build_cohort(plan, "train")
    before = trained_before(plan, cohort)
    if before is not None:
        return before, False
    weights = _weights(plan)
    network, curve = _fit(plan, cohort, device, quiet=quiet)
    card = save_model(
        weights, plan.model, network.cpu(), cohort, _settings(plan), curve,
        validation=_validation(plan),
    )  # fmt: skip
    write_curve(weights, curve)
    shutil.rmtree(_unfinished(weights), ignore_errors=True)
    return card, True


def _fit(plan: Plan, cohort: Cohort, device: str, *, quiet: bool) -> tuple[nn.Module, list[Row]]:
    settings, own = _settings(plan), plan.train or {}
    if "workers" not in own:
        settings = replace(settings, workers=suitable_workers(cohort))
    network = build_network(plan.model, cohort, seed=settings.seed)
    line = TrainingLine(settings.epochs)
    curve = train(
        network,
        cohort,
        settings,
        folder=_unfinished(_weights(plan)),
        device=device,
        validation=_validation(plan),
        on_epoch=None if quiet else line.epoch,
        on_step=None if quiet else line.step,
    )
    return network, curve


def _follow(plan: Plan, device: str) -> int:
    """Train along with the first process, which writes and tells."""
    try:
        cohort = build_cohort(plan, "train")
        if trained_before(plan, cohort) is None:
            _fit(plan, cohort, device, quiet=True)
    except RobustbenchMedError as error:
        # What all processes meet the first one tells, and the rest are ended meanwhile.
        time.sleep(FIRST_TELLS_S)
        print(f"rbmed: process {here().rank}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _unfinished(weights: Path) -> Path:
    return weights.with_suffix(".checkpoint")


def _validation(plan: Plan) -> Cohort | None:
    split = _settings(plan).validation
    return None if split is None else build_other(plan, split, "train: validation")


def _validation_digest(plan: Plan) -> str:
    validation = _validation(plan)
    return "" if validation is None else cohort_digest(validation)


def _weights(plan: Plan) -> Path:
    weights = plan.model.get("weights")
    if not isinstance(weights, str):
        raise InputError(f"plan {plan.name!r}: model: expected weights = FILE.safetensors to write")
    if is_shipped(weights):
        raise InputError(
            f"plan {plan.name!r}: model: {weights!r} comes with the package; to train, name a file"
        )
    return plan.folder / weights


def _settings(plan: Plan) -> TrainSettings:
    if plan.train is None:
        raise InputError(f"plan {plan.name!r}: has no [train] table, so nothing to train")
    settings = TrainSettings(**({"seed": plan.seed} | dict(plan.train)))
    if settings.start is not None and Path(settings.start) == _weights(plan):
        raise InputError(f"train: start: is where the trained weights go: {settings.start}")
    return settings

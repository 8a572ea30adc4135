"""Thresholds: fixed by `rbmed train` on a split of their own, kept on the model's card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.cases import Cohort
from robustbench_med.engine.evaluate import Failure, evaluate
from robustbench_med.errors import InputError
from robustbench_med.models import load_model
from robustbench_med.plan import Plan
from robustbench_med.plan_metrics import detections
from robustbench_med.plan_splits import Calibration
from robustbench_med.probes import Metric, clean
from robustbench_med.questions import build_metrics, build_other
from robustbench_med.reports.wording import interval
from robustbench_med.shipped import located
from robustbench_med.statistics.operating_point import threshold_for
from robustbench_med.training.card import Card, cohort_digest, read_card, write_card

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Threshold:
    """The probability from which a metric calls a case positive.

    Attributes:
        value: None where no threshold is known.
        source: Where it is from, in words; None where no threshold is known.
    """

    value: float | None = None
    source: str | None = None


def thresholds(plan: Plan, metrics: Mapping[str, Metric]) -> dict[str, Threshold]:
    """The threshold of each metric that may have one: the plan's own, else the model card's.

    Raises:
        InputError: If the plan's calibration was not carried out on the weights that are there.
    """
    points = _points(plan)
    return {name: _threshold(plan, name, m, points) for name, m in detections(metrics).items()}


def _threshold(
    plan: Plan, name: str, metric: Metric, points: Mapping[str, Point] | None
) -> Threshold:
    own: float | None = getattr(metric, "threshold", None)
    if own is not None:
        return Threshold(own, "plan")
    point = None if points is None else points.get(name)
    if plan.calibrate is not None and points is not None:
        if not _is_by(point, plan.calibrate, metric):
            raise InputError(
                f"calibrate: {name}: the model's card has no threshold for split "
                f"{plan.calibrate.split}, {plan.calibrate.rule}; run rbmed train again"
            )
    elif point is not None and point.get("label") != getattr(metric, "label", None):
        point = None
    return Threshold() if point is None else Threshold(point["threshold"], told(point))


def told(point: Point) -> str:
    """An operating point of a model card, in words."""
    return (
        f"model card: split {point['split']}, {point['rule']}, n={point['patients']} patients, "
        f"{point['positives']} cases positive, 95% interval of the threshold "
        f"{interval(float(point['low']), float(point['high']))}"
    )


def calibrating(plan: Plan) -> tuple[Cohort, dict[str, Metric]] | None:
    """Build the cases that the plan's thresholds are to be fixed on; None where it asks for none.

    Returns:
        The cohort, and by name the metrics that wait for a threshold.

    Raises:
        InputError: If there is no such split, or no metric waits for a threshold.
    """
    if plan.calibrate is None:
        return None
    cohort = build_other(plan, plan.calibrate.split, "calibrate")
    found = detections(build_metrics(plan, cohort.task))
    waiting = {n: m for n, m in found.items() if getattr(m, "threshold", None) is None}
    if not waiting:
        raise InputError(
            "calibrate: no metric waits for a threshold; give the plan a metric 'detection' "
            "without one, or leave [calibrate] out"
        )
    return cohort, waiting


def calibrate(
    plan: Plan, asked: Calibration, card: Card, cohort: Cohort, metrics: Mapping[str, Metric]
) -> Card:
    """Fix a threshold for each metric, unless the model's card has them all, and write the card.

    Args:
        plan: With weights that are trained.
        asked: By which rule.
        card: Of those weights.
        cohort: The cases that decide.
        metrics: That wait for a threshold, by name.

    Raises:
        InputError: If the model fails on too many cases, or they give no threshold.
    """
    digest = cohort_digest(cohort)
    known = (_is_by(card.operating_points.get(n), asked, m, digest) for n, m in metrics.items())
    if all(known):
        return card
    scores = _scores(plan, cohort, metrics)
    points = {
        name: {
            **_fixed(name, asked, scores[name]),
            "cohort_digest": digest,
            "label": getattr(metric, "label", None),
        }
        for name, metric in metrics.items()
    }
    card = replace(card, operating_points={**card.operating_points, **points})
    write_card(plan.folder / str(plan.model["weights"]), card)
    return card


def _is_by(
    point: Point | None, asked: Calibration, metric: Metric, digest: str | None = None
) -> bool:
    """Whether a point was fixed by this rule on this split; on these cases, if a digest says so."""
    if point is None or point.get("label") != getattr(metric, "label", None):
        return False
    same = (point.get("split"), point.get("rule")) == (asked.split, asked.rule)
    return same and (digest is None or point.get("cohort_digest") == digest)


def _points(plan: Plan) -> Mapping[str, Point] | None:
    """Operating points on the card of the plan's weights; None while there are no weights."""
    weights = plan.model.get("weights")
    if not isinstance(weights, str):
        return {}
    path = located(weights, plan.folder)
    if not path.is_file():
        return None
    card = read_card(path)
    return card.operating_points if card else {}


def _scores(plan: Plan, cohort: Cohort, metrics: Mapping[str, Metric]) -> dict[str, pd.DataFrame]:
    """For each metric the cases' `patient`, `probability` of the class and whether `positive`."""
    model = load_model(plan.model, cohort=cohort, device=plan.device, folder=plan.folder)
    failures: list[Failure] = []
    asked = evaluate(
        model,
        cohort,
        [clean(metrics)],
        batch_size=plan.batch_size,
        seed=plan.seed,
        on_failure=failures.append,
    )
    records = pd.DataFrame(list(asked)).pivot_table(
        index="case_id", columns="metric", values="value", sort=False, dropna=False
    )
    _refuse_losses(failures, len(cohort), plan)
    summaries = [cohort.summary(index) for index in range(len(cohort))]
    patients = pd.Series({s.case_id: s.patient_id for s in summaries})
    return {name: _probabilities(name, records, patients) for name in metrics}


def _refuse_losses(failures: Sequence[Failure], cases: int, plan: Plan) -> None:
    if len(failures) > plan.failure_limit * cases:
        first = failures[0]
        raise InputError(
            f"calibrate: the model failed on {len(failures)} of {cases} cases, over the limit of "
            f"{plan.failure_limit:.1%}; case {first.case_id!r}: {first.message}"
        )


def _probabilities(name: str, records: pd.DataFrame, patients: pd.Series) -> pd.DataFrame:
    """Undo what `detection` records: the probability given to the truth about the class."""
    found = records[[name, f"{name}.true"]].dropna()
    positive = found[f"{name}.true"].to_numpy() == 1
    given = found[name].to_numpy()
    probability = np.where(positive, given, 1 - given)
    ids = patients.reindex(found.index).to_numpy()
    return pd.DataFrame({"patient": ids, "probability": probability, "positive": positive})


def _fixed(name: str, asked: Calibration, scores: pd.DataFrame) -> dict[str, Any]:
    try:
        point = threshold_for(
            scores["probability"].to_numpy(),
            scores["positive"].to_numpy(),
            scores["patient"].to_numpy(),
            sensitivity=asked.sensitivity,
            specificity=asked.specificity,
        )
    except InputError as error:
        raise InputError(f"calibrate: {name}: split {asked.split!r}: {error}") from error
    return {**asdict(point), "rule": asked.rule, "split": asked.split}

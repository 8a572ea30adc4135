"""Build and check all that a plan names, before anything is computed."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from robustbench_med.cases import CaseSummary, Cohort, digest_of
from robustbench_med.engine.agreement import check_agreement
from robustbench_med.engine.cells import Cell, Inquiry, cells
from robustbench_med.engine.local import OnProgress, Progress
from robustbench_med.engine.sources import code_digest
from robustbench_med.model import Model
from robustbench_med.models import load_model, model_digest
from robustbench_med.operating import Threshold, thresholds
from robustbench_med.plan import Plan
from robustbench_med.probes import Metric
from robustbench_med.questions import (
    build_cohort,
    build_inquiries,
    build_other,
    check_policy,
    check_subgroups,
)
from robustbench_med.survey import survey


@dataclass(frozen=True)
class Prepared:
    """All that a plan names, built and checked, before anything is computed.

    Attributes:
        plan: As loaded.
        cohort: What is tested.
        against: The split that it is held against; None without one.
        model: Under test.
        summaries: One per case of the cohort.
        inquiries: Every probe with its cases.
        metrics: By name.
        thresholds: Of those metrics that may have one, by name.
        cells: What is to be computed.
        model_digest: Of the model and its code.
        against_digest: Of the split that the cohort is held against; None without one.
    """

    plan: Plan
    cohort: Cohort
    against: Cohort | None
    model: Model
    summaries: Sequence[CaseSummary]
    inquiries: Sequence[Inquiry]
    metrics: dict[str, Metric]
    thresholds: Mapping[str, Threshold]
    cells: Sequence[Cell]
    model_digest: str
    against_digest: str | None


def trained(plan: Plan, cohort: Cohort) -> Model:
    """Load the plan's model."""
    return load_model(plan.model, cohort=cohort, device=plan.device, folder=plan.folder)


def prepare(plan: Plan, model_of: Callable[[Plan, Cohort], Model] = trained) -> Prepared:
    """Build and check everything that `plan` names, its model by `model_of`.

    Raises:
        InputError: If data, model and plan do not fit together.
    """
    cohort = build_cohort(plan)
    summaries = survey(cohort)
    check_subgroups(plan, summaries)
    inquiries, metrics = build_inquiries(plan, cohort, summaries)
    fixed = thresholds(plan, metrics)
    known = [name for name, t in fixed.items() if plan.calibrate or t.value is not None]
    check_policy(plan, inquiries, metrics, known)
    against = None if plan.against is None else build_other(plan, plan.against, "against")
    model = model_of(plan, cohort)
    check_agreement(model, cohort)
    digest = _model_and_code(model)
    return Prepared(
        plan=plan,
        cohort=cohort,
        against=against,
        model=model,
        summaries=summaries,
        inquiries=inquiries,
        metrics=metrics,
        thresholds=fixed,
        cells=tuple(cells(inquiries, summaries, model=digest, seed=plan.seed)),
        model_digest=digest,
        against_digest=None if against is None else digest_of(survey(against)),
    )


def _model_and_code(model: Model) -> str:
    """Weights do not tell how a module uses them, so its classes' code counts too."""
    network = getattr(model, "network", None)
    parts = network.modules() if isinstance(network, nn.Module) else ()
    modules = {type(part).__module__ for part in (model, *parts)}
    own = {name for name in modules if not name.startswith(("torch.", "builtins"))}
    return hashlib.sha256(f"{model_digest(model)}{code_digest(own)}".encode()).hexdigest()


def audit_splits(prepared: Prepared, on_progress: OnProgress) -> dict[str, Any] | None:
    """What the tested split shares with the one that it is held against; None without one."""
    if prepared.against is None:
        return None
    from robustbench_med.overlap.audit import audit

    started = time.perf_counter()

    def tell(what: str, done: int, total: int) -> None:
        spent = time.perf_counter() - started
        left = spent / done * (total - done) if done else math.nan
        on_progress(Progress(done, total, done, spent, left, f"splits: {what}"))

    found = audit(prepared.cohort, prepared.against, seed=prepared.plan.seed, on_progress=tell)
    return {"against": prepared.plan.against, **found}

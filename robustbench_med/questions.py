"""From a plan's words to what the engine asks: cohort, metrics, probes and their cases."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from robustbench_med.cases import CaseSummary, Cohort, Task
from robustbench_med.components import build, suggest
from robustbench_med.engine.cells import Inquiry, pick
from robustbench_med.engine.evaluate import check_names
from robustbench_med.errors import InputError, raise_together
from robustbench_med.plan import Asked, Component, Plan
from robustbench_med.plan_metrics import missing_metric
from robustbench_med.probes import Metric, Probe, attacked, certified, clean, shifted
from robustbench_med.searching import Search, Then, searched, searched_then
from robustbench_med.threat import Ball

SCORED_BY_CLASS = ("classification", "multilabel", "segmentation")


def build_cohort(plan: Plan, split: str | None = None) -> Cohort:
    """Build the plan's cohort; `split` takes the place of the one that the plan tests."""
    settings = dict(plan.cohort.settings)
    if split is not None:
        settings["split"] = split
    cohort = build("cohorts", plan.cohort.use, **settings)
    if not isinstance(cohort, Cohort):
        raise InputError(f"cohorts: {plan.cohort.use}: expected a Cohort, got {type(cohort)}")
    return cohort


def build_other(plan: Plan, split: str, why: str) -> Cohort:
    """Build another split of the plan's cohort; `why`, a key of the plan, begins complaints."""
    try:
        return build_cohort(plan, split)
    except InputError as error:
        raise InputError("\n".join(f"{why}: {line}" for line in str(error).splitlines())) from error


def build_metrics(plan: Plan, task: Task) -> dict[str, Metric]:
    """Build the plan's metrics by name, and `correct` wherever classes are scored.

    `correct` is always there, because a proof can be held against an attack only by it.
    """
    metrics: dict[str, Metric] = {}
    for component in plan.metrics:
        if component.name in metrics:
            raise InputError(f"metrics: {component.name!r} is there twice; give one a name")
        settings = _with_label_index(component, task)
        metrics[component.name] = build("metrics", component.use, **settings)
    if task.kind in SCORED_BY_CLASS and "correct" not in metrics:
        metrics["correct"] = build("metrics", "correct")
    if not metrics:
        raise InputError(f"metrics: a {task.kind} task needs at least one, e.g. nmse")
    return metrics


def _with_label_index(component: Component, task: Task) -> Mapping[str, Any]:
    label = component.settings.get("label")
    if label is None:
        return component.settings
    if isinstance(label, str):
        if label not in task.classes:
            hint = suggest(label, task.classes)
            raise InputError(f"metrics: {component.use}: no class {label!r}; {hint}")
        return {**component.settings, "label": task.classes.index(label)}
    if not 0 <= label < len(task.classes):
        raise InputError(
            f"metrics: {component.use}: label must be 0 to {len(task.classes) - 1}, got {label}"
        )
    return component.settings


def build_inquiries(
    plan: Plan, cohort: Cohort, summaries: Sequence[CaseSummary]
) -> tuple[tuple[Inquiry, ...], dict[str, Metric]]:
    """Build every probe of the plan with the cases it is asked about, and the metrics used."""
    metrics = build_metrics(plan, cohort.task)
    found: list[tuple[Probe, int | None]] = [(clean(metrics), None)]
    for kind, entries in (
        ("attacks", plan.attacks),
        ("shifts", plan.shifts),
        ("certifiers", plan.certificates),
    ):
        for asked in entries:
            found += [(probe, asked.cases) for probe in _probes(kind, asked, cohort, metrics)]
    check_names([probe for probe, _ in found])
    inquiries = (Inquiry(p, pick(summaries, count, plan.seed)) for p, count in found)
    return tuple(inquiries), metrics


def _probes(
    kind: Any,  # noqa: ANN401
    asked: Asked,
    cohort: Cohort,
    metrics: Mapping[str, Metric],
) -> list[Probe]:
    name = asked.component.name
    thing = build(kind, asked.component.use, **asked.component.settings)
    if asked.search:
        search = build("searches", asked.search.use, **asked.search.settings)
        return _searches(asked, search, thing, cohort, metrics)
    if kind == "shifts":
        return [shifted(name, thing, severity, metrics) for severity in asked.levels]
    balls = [_ball(table, name, cohort) for table in asked.levels]
    if kind == "attacks":
        return [attacked(name, thing, ball, metrics) for ball in balls]
    return [certified(name, thing, ball) for ball in balls]


def _searches(
    asked: Asked,
    search: Search,
    shift: Any,  # noqa: ANN401
    cohort: Cohort,
    metrics: Mapping[str, Metric],
) -> list[Probe]:
    name = asked.component.name
    if asked.then is None:
        return [searched(name, search, shift, level, metrics) for level in asked.levels]
    return [
        searched_then(name, search, shift, level, metrics, then)
        for level in asked.levels
        for then in _then(asked.then, name, cohort)
    ]


def _then(asked: Asked, shift: str, cohort: Cohort) -> list[Then]:
    use, name, settings = asked.component.use, asked.component.name, asked.component.settings
    attack, where = build("attacks", use, **settings), f"{shift}: search: then"
    return [Then(name, attack, _ball(table, where, cohort)) for table in asked.levels]


def _ball(table: Mapping[str, Any], name: str, cohort: Cohort) -> Ball:
    ball = Ball(**{"bounds": cohort.bounds, **table})
    needed = {ball.support, "noise" if ball.unit == "noise" else None} - {None}
    if needed and len(cohort):
        held = cohort.cases[0].context
        missing = sorted(str(entry) for entry in needed if entry not in held)
        if missing:
            raise InputError(
                f"{name}: ball: needs {' and '.join(missing)} in the cases' context, which has "
                f"{', '.join(held) or 'nothing'}"
            )
    low, high = cohort.bounds
    if ball.bounds[0] < low or ball.bounds[1] > high:
        raise InputError(
            f"{name}: ball: bounds {ball.bounds[0]:g} to {ball.bounds[1]:g} reach beyond the "
            f"cohort's intensities, {low:g} to {high:g}; leave bounds out, and give eps in these"
        )
    if (ball.norm, ball.unit) == ("linf", "intensity") and ball.eps > high - low:
        raise InputError(
            f"{name}: ball: eps = {ball.eps:g} is more than the whole range of intensities, "
            f"{low:g} to {high:g}; one grey level of 255 is {(high - low) / 255:.5f}"
        )
    return ball


def check_policy(
    plan: Plan,
    inquiries: Sequence[Inquiry],
    metrics: Mapping[str, Metric],
    thresholded: Collection[str],
) -> None:
    """Raise `InputError` for each rule of the plan's policy on what the plan does not ask.

    Args:
        plan: With a policy, or nothing is checked.
        inquiries: Every probe of the plan.
        metrics: Of the plan, by name.
        thresholded: Names of those that have a threshold, or will have one once trained.
    """
    if plan.policy is None:
        return
    from robustbench_med.reports.policy import load_policy

    probes = [inquiry.probe for inquiry in inquiries]
    balls = dict.fromkeys(str(p.measure.ball) for p in probes if p.kind == "attack")  # type: ignore[attr-defined]
    known = [*(probe.name for probe in probes), *(f"worst[{ball}]" for ball in balls)]
    groups = {frozenset(group) for group in plan.subgroups}
    problems: list[str] = []
    for rule in load_policy(plan.policy).rules:
        where = f"{plan.policy.name}: rule {rule.id!r}: the plan has no"
        proof = any(p.name == rule.probe and p.kind == "certificate" for p in probes)
        if rule.probe not in known:
            problems.append(f"{where} probe {rule.probe!r}; {suggest(rule.probe, known)}")
        elif not proof:
            missing = missing_metric(rule.metric, plan, metrics, thresholded)
            problems += [f"{where} metric {rule.metric!r}; {missing}"] if missing else []
        if rule.subgroup and frozenset(rule.subgroup) not in groups:
            problems.append(f"{where} subgroup {' x '.join(rule.subgroup)!r}; add it to subgroups")
    raise_together(problems)


def check_subgroups(plan: Plan, summaries: Sequence[CaseSummary]) -> None:
    """Raise `InputError` for each attribute of `subgroups` and `explore` that no case has."""
    known = sorted({name for summary in summaries for name in summary.attributes})
    columns = dict.fromkeys(column for group in plan.subgroups for column in group)
    raise_together(
        [
            f"{key}: the cohort has no attribute {column!r}; {suggest(column, known)}"
            for key, asked in (("subgroups", columns), ("explore", plan.explore))
            for column in asked
            if column not in known
        ]
    )

"""Which figures a plan's metrics give rise to, themselves and what is made from them."""

from collections.abc import Collection, Mapping

from robustbench_med.components import suggest
from robustbench_med.plan import Plan
from robustbench_med.probes import Metric
from robustbench_med.statistics.detection import FIGURES

AT_A_THRESHOLD = ("sensitivity", "specificity", "ppv", "npv")
OF_AGREEMENT = ("loa_low", "loa_high")


def detections(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics whose records hold the probability given to the truth about one class."""
    return {n: m for n, m in metrics.items() if getattr(m, "reads", "") == "detection"}


def missing_metric(
    wanted: str, plan: Plan, metrics: Mapping[str, Metric], thresholded: Collection[str]
) -> str | None:
    """Say what would have to change for the plan to have a figure; None where it has it.

    Args:
        wanted: Name of a metric, or of a figure made from one: "dice_lv.failure".
        plan: With tolerances.
        metrics: Of the plan, by name.
        thresholded: Names of those that have a threshold, or will have one once trained.
    """
    there: list[str] = []
    lacking: dict[str, str] = {}
    for name, metric in metrics.items():
        known, unknown = _figures(
            metric, tolerated=name in plan.tolerances, thresholded=name in thresholded
        )
        there += [name, *(f"{name}.{figure}" for figure in known)]
        lacking |= {f"{name}.{figure}": f"give {name} {cure}" for figure, cure in unknown.items()}
    if wanted in there:
        return None
    return lacking.get(wanted) or suggest(wanted, there)


def _figures(
    metric: Metric, *, tolerated: bool, thresholded: bool
) -> tuple[list[str], dict[str, str]]:
    """What is made from a metric, and what could be, with what the metric would need."""
    known: list[str] = []
    unknown: dict[str, str] = {}
    if tolerated:
        known.append("failure")
    else:
        unknown["failure"] = "a tolerance"
    if metric.better == "zero":
        known += OF_AGREEMENT
    if getattr(metric, "reads", "") == "detection":
        known += FIGURES
        if thresholded:
            known += AT_A_THRESHOLD
        else:
            unknown |= dict.fromkeys(AT_A_THRESHOLD, "a threshold, or add [calibrate]")
    return known, unknown

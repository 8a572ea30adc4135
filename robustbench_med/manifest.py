"""The run's manifest: what is tested, by what, with which digests, and how it ended."""

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

from robustbench_med.cases import digest_of
from robustbench_med.engine.cells import Inquiry, probe_digest
from robustbench_med.engine.evaluate import device_of
from robustbench_med.engine.sources import code_digest
from robustbench_med.probes import Metric
from robustbench_med.runfolder import SCHEMA_VERSION, Run

if TYPE_CHECKING:
    from robustbench_med.preparing import Prepared

PACKAGES = (
    "robustbench-med", "torch", "numpy", "pandas", "scipy", "pyarrow", "auto-LiRPA",
    "torchattacks", "matplotlib", "nibabel", "pillow", "onnxruntime",
)  # fmt: skip
CERTIFICATE_METRICS = {
    "certified": {"better": "higher", "patient": "mean", "unit": ""},
    "falsified": {"better": "lower", "patient": "mean", "unit": ""},
    "undecided": {"better": "lower", "patient": "mean", "unit": ""},
    "margin_bound": {"better": "higher", "patient": "mean", "unit": "logits"},
    "checked": {"better": "higher", "patient": "mean", "unit": ""},
    "abstained": {"better": "lower", "patient": "mean", "unit": ""},
    "radius": {"better": "higher", "patient": "mean", "unit": ""},
    "nmse_limit": {"better": "lower", "patient": "mean", "unit": ""},
    "nmse_clean": {"better": "lower", "patient": "mean", "unit": ""},
    "worst_pixel_limit": {"better": "lower", "patient": "mean", "unit": ""},
}


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def begin_manifest(prepared: "Prepared", run: Run, known: int) -> dict[str, Any]:
    """Everything that can be said before the first answer.

    Args:
        prepared: The plan and all it names.
        run: Its folder; what an earlier start wrote there about policy and splits is kept.
        known: How many of the plan's cells are stored already.
    """
    plan, cohort = prepared.plan, prepared.cohort
    policy = plan.policy.read_text(encoding="utf-8") if plan.policy else None
    digests = {
        "model": prepared.model_digest,
        "cohort": digest_of(prepared.summaries),
        "against": prepared.against_digest,
        "code": code_digest({"robustbench_med.running"}),
        "policy": hashlib.sha256(policy.encode()).hexdigest() if policy else None,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "state": "running",
        "plan": plan.raw,
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "digests": digests,
        "policy": policy,
        "policy_fixed": _policy_fixed(policy, run, known),
        "task": {"kind": cohort.task.kind, "classes": list(cohort.task.classes)},
        "bounds": list(cohort.bounds),
        "cohort": _cohort(prepared),
        "model": {"name": str(plan.model["use"]), "card": getattr(prepared.model, "card", None)},
        "metrics": {n: _metric(n, prepared) for n in prepared.metrics} | CERTIFICATE_METRICS,
        "probes": [_probe(inquiry) for inquiry in prepared.inquiries],
        "subgroups": [list(group) for group in plan.subgroups],
        "explore": list(plan.explore),
        "split": _split_known(run, digests),
        "looks": None,
        "validity": None,
        "failure_limit": plan.failure_limit,
        "batch_size": plan.batch_size,
        "versions": {"python": platform.python_version()} | _versions(),
        "hardware": _hardware(prepared),
        "started": now(),
        "finished": None,
        "failures": 0,
    }


def with_end(
    manifest: Mapping[str, Any], state: str, failures: int, spent: Mapping[str, float],
    seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """The manifest with how the run ended and each probe's seconds."""
    probes = [{**probe, "seconds": spent.get(probe["name"], 0.0)} for probe in manifest["probes"]]
    ended = {"state": state, "failures": failures, "probes": probes, "finished": now()}
    return {**manifest, **ended, "seconds": seconds}


def _split_known(run: Run, digests: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """What an earlier start found out about these two splits, by this code."""
    earlier = run.manifest if run.manifest_path.is_file() else {}
    same = ("cohort", "against", "code")
    known = all(earlier.get("digests", {}).get(name) == digests[name] for name in same)
    return earlier.get("split") if known else None


def _policy_fixed(policy: str | None, run: Run, known: int) -> str | None:
    """Say whether the policy was laid down before any answer was known."""
    if policy is None:
        return None
    earlier = run.manifest if run.manifest_path.is_file() else {}
    if earlier.get("policy") == policy:
        return str(earlier["policy_fixed"])
    if known:
        return f"{now()}, when {known} cells of results were already known"
    return f"{now()}, before any result was known"


def _cohort(prepared: "Prepared") -> dict[str, Any]:
    summaries = prepared.summaries
    names = dict.fromkeys(name for s in summaries for name in s.attributes)
    missing = {n: sum(s.attributes.get(n) is None for s in summaries) for n in names}
    patients = len({s.patient_id for s in summaries})
    return {
        "name": prepared.cohort.name, "cases": len(summaries), "patients": patients,
        "missing": missing,
    }  # fmt: skip


def _metric(name: str, prepared: "Prepared") -> dict[str, Any]:
    metric, limits = prepared.metrics[name], getattr(prepared.metrics[name], "limits", None)
    told = {
        "better": metric.better,
        "patient": getattr(metric, "patient", "mean"),
        "unit": getattr(metric, "unit", ""),
        "reads": getattr(metric, "reads", ""),
        "limits": None if limits is None else [float(limit) for limit in limits],
        "label": _class_name(metric, prepared.cohort.task.classes),
        "tolerance": prepared.plan.tolerances.get(name),
    }
    fixed = prepared.thresholds.get(name)
    if fixed is None:
        return told
    return {**told, "threshold": fixed.value, "threshold_from": fixed.source}


def _class_name(metric: Metric, classes: Sequence[str]) -> str | None:
    label = getattr(metric, "label", None)
    return classes[label] if isinstance(label, int) and 0 <= label < len(classes) else None


def _probe(inquiry: Inquiry) -> dict[str, Any]:
    probe = inquiry.probe
    ball = getattr(probe.measure, "ball", None)
    return {
        "name": probe.name,
        "kind": probe.kind,
        "level": probe.level,
        "component": probe.name.split("[")[0].split("@")[0],
        "ball": None if ball is None else str(ball),
        "settings": probe.spec["measure"],
        "digest": probe_digest(probe),
        "cases": len(inquiry.indices),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hardware(prepared: "Prepared") -> dict[str, Any]:
    device = device_of(prepared.model)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }

"""Shipped networks on simulated hearts: a segmenter and a classifier."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from attack_peers.setting import Setting, frozen
from robustbench_med.cases import Batch
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model
from robustbench_med.plan import load_plan
from robustbench_med.questions import build_cohort
from robustbench_med.threat import Ball

SYSTEMS = Path(__file__).parents[2] / "examples" / "systems"
SLICES, PATIENTS, FEW = 20, 100, 20


def shipped_networks() -> Iterator[Setting]:
    """The segmenter; the classifier, with few cases where searches are long."""
    yield hearts("bai_fcn", range(0, 7 * SLICES, 7), 24, 0.03, ("segmentation",))
    lenet = classifier()
    yield lenet
    rows = torch.arange(FEW)
    few = Batch(lenet.batch.case_ids[:FEW], lenet.batch.image[rows], lenet.batch.target[rows])
    yield replace(lenet, name=f"lenet_{FEW}", batch=few, families=("ensemble",))


def classifier() -> Setting:
    """One case a patient."""
    return hearts("lenet", range(PATIENTS), PATIENTS, 0.006, ("pgd", "apgd"))


def hearts(name: str, rows: range, patients: int, eps: float, families: tuple[str, ...]) -> Setting:
    """A shipped network on test patients of its plan."""
    plan = load_plan(SYSTEMS / f"{name}.toml")
    asked = {**plan.cohort.settings, "patients": {"test": patients}}
    cohort = build_cohort(replace(plan, cohort=replace(plan.cohort, settings=asked)))
    entry = {**plan.model, "weights": f"shipped:{name}"}
    model = load_model(entry, cohort=cohort, device="cpu", folder=plan.folder)
    if not isinstance(model, TorchModel):
        raise SystemExit(f"attacks: expected a network, got {type(model).__name__}")
    cases = [cohort.cases[row] for row in rows]
    batch = Batch(tuple(case.case_id for case in cases), torch.stack([c.image for c in cases]),
                  torch.stack([c.target for c in cases]))  # fmt: skip
    return Setting(name, frozen(model), batch, Ball("linf", eps, (0, 1)), families)

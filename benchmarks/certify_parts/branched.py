"""Certified accuracy of a classifier, and the seconds it took: CROWN, alpha, branch and bound."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from certify_parts.clock import middle, peak_mib, timed
from certify_parts.trained import BOUNDS, DIGITS_TRAINED_ON, digits, digits_classifier
from robustbench_med.certify.branching import Search
from robustbench_med.certify.ladder import Climbed, Effort, Rows, climb
from robustbench_med.certify.lirpa import lowest
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.margin import class_margins
from robustbench_med.certify.region import box
from robustbench_med.certify.trace import trace
from robustbench_med.proofs.check import check
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import InputSet

RADII, BUDGETS = (0.06, 0.1), (50, 200, 1000)
STEPS, STARTS = 40, 5
ENGINE = "auto_lirpa_crown"
Efforts = dict[str, Effort]


def efforts(*, quick: bool) -> Efforts:
    """Rungs and budgets, the cheap ones first."""
    budgets = BUDGETS[:1] if quick else BUDGETS
    return {
        "crown": Effort("crown"),
        "alpha": Effort("alpha_crown"),
        **{f"parts_{n}": Effort("branch_and_bound", search=Search(budget=n)) for n in budgets},
    }


def branched(folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """A row of figures for each radius."""
    network, image, target = _cases(folder, quick=quick)
    return [_at(network, image, target, eps, quick=quick) for eps in RADII]


def memory(folder: Path, method: str, *, quick: bool) -> dict[str, float]:
    """Peak memory of one method on a few cases, beside imports."""
    network, image, target = _cases(folder, quick=True)
    written, before = lowered(network, image[:1]).network, peak_mib()
    for row in range(len(image)):
        _answer(network, written, (image[row : row + 1], target[row], RADII[-1]), method,
                efforts(quick=quick))  # fmt: skip
    return {"before_mib": before, "peak_mib": peak_mib()}


def _cases(folder: Path, *, quick: bool) -> tuple[nn.Module, Tensor, Tensor]:
    network = digits_classifier(folder, quick=quick)
    some = slice(DIGITS_TRAINED_ON, DIGITS_TRAINED_ON + (3 if quick else 50))
    image, target = digits()
    return network, image[some], target[some]


def _at(
    network: nn.Module, image: Tensor, target: Tensor, eps: float, *, quick: bool
) -> dict[str, Any]:
    broken, search = timed(lambda: _falsified(network, image, target, eps))
    written, asked = lowered(network, image[:1]).network, efforts(quick=quick)
    methods = [ENGINE, *asked]
    for name in methods[:2]:  # a tool's first call is slower than others
        _answer(network, written, (image[:1], target[0], eps), name, asked)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    certified: dict[str, int] = {}
    checks: dict[str, float] = {}
    for repeat in range(1 if quick else 3):
        spent, proved, checked = (dict.fromkeys(methods, 0.0) for _ in range(3))
        for row in np.flatnonzero(~broken.numpy()).tolist():
            case = image[row : row + 1], target[row], eps
            for name in methods[:: -1 if (row + repeat) % 2 else 1]:
                (holds, climbed), took = timed(
                    lambda case=case, name=name: _answer(network, written, case, name, asked)  # type: ignore[misc]
                )
                spent[name] += took
                proved[name] += holds
                if climbed is not None:
                    checked[name] += timed(lambda c=climbed: check(written, c.proof))[1]  # type: ignore[misc]
        for name in methods:
            seconds[name].append(spent[name])
        certified = {name: int(count) for name, count in proved.items()}
        checks = {name: round(took, 4) for name, took in checked.items() if name != ENGINE}
    return {
        "eps": eps, "cases": len(image), "falsified": int(broken.sum()), "search": round(search, 4),
        "certified": certified, "seconds": {n: middle(each) for n, each in seconds.items()},
        "checker": checks,
    }  # fmt: skip


def _answer(
    network: nn.Module, written: Network, case: tuple[Tensor, Tensor, float], name: str,
    asked: Efforts,
) -> tuple[bool, Climbed | None]:  # fmt: skip
    image, target, eps = case
    low, high = (image - eps).clamp(*BOUNDS), (image + eps).clamp(*BOUNDS)
    rows = class_margins(torch.zeros(10), target)
    if name == ENGINE:
        found = lowest(trace(network, image), box(low, high), rows, "crown")
        return bool((found > 0).all()), None
    inputs = InputSet(low[0].double().numpy(), high[0].double().numpy())
    margins = Rows(rows.columns.numpy(), rows.values.double().numpy())
    climbed = climb(written, inputs, margins, asked[name])
    return bool((climbed.limits > 0).all()), climbed


def _falsified(network: nn.Module, image: Tensor, target: Tensor, eps: float) -> Tensor:
    """Which are answered wrongly somewhere in their ball, as far as gradient steps tell."""
    broken = network(image).argmax(dim=1) != target
    stream = torch.Generator().manual_seed(0)
    low, high = (image - eps).clamp(*BOUNDS), (image + eps).clamp(*BOUNDS)
    for _ in range(STARTS):
        moved = low + (high - low) * torch.rand(image.shape, generator=stream)
        for step in range(STEPS):
            moved.requires_grad_()
            logits = network(moved)
            broken |= logits.argmax(dim=1) != target
            own = F.one_hot(target, 10) > 0
            margin = logits[own] - logits.masked_fill(own, -torch.inf).amax(dim=1)
            (slope,) = torch.autograd.grad(margin.sum(), moved)
            stride = eps * max(1 - step / STEPS, 0.05)
            moved = torch.minimum(torch.maximum(moved.detach() - stride * slope.sign(), low), high)
        with torch.no_grad():
            broken |= network(moved).argmax(dim=1) != target
    return broken

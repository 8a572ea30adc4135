"""From bounds on margins to what is proved about each case; shared by every bound method."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch
from robustbench_med.certify.audit import POINTS, audit, sampled
from robustbench_med.certify.lirpa import SLACK, Method, lowest
from robustbench_med.certify.margin import SparseRows, class_margins, sign_margins
from robustbench_med.certify.region import Region, region
from robustbench_med.certify.trace import Traced, trace
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel
from robustbench_med.probes import Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

# Cheap methods first: what they prove need not be bounded again.
_LADDER: tuple[Method, ...] = ("ibp", "crown_ibp", "crown")


def check_slack(name: str, slack: float) -> None:
    """Refuse a slack that is negative or not finite."""
    if not (math.isfinite(slack) and slack >= 0):
        raise InputError(f"{name}: slack must be finite and at least 0, got {slack}")


@dataclass(frozen=True)
class Request:
    """What is to be proved about each case of a batch, and how.

    Attributes:
        model: Answers classification, multilabel or segmentation.
        batch: The cases.
        ball: The images around each of them.
        method: Tightest bounds to use.
        slack: Smallest margin that counts, relative to 1 + the largest output at the centre.
    """

    model: Model
    batch: Batch
    ball: Ball
    method: Method
    slack: float


def certify(request: Request, rng: CaseRng) -> Values:
    """Bound every margin of every case over the ball, and say what that proves.

    Returns:
        `certified`, `falsified` and `undecided`, `(b,)`: 0 or 1, or for a segmentation shares
        of pixels; they sum to 1. Except for a segmentation, also `margin_bound`, `(b,)`: a
        lower limit of the smallest margin of the truth, in logits.

    Raises:
        UnsupportedError: If model, task, ball or an operator is none that can be bounded.
        CaseError: If an image or output is not finite, or a target no class of the model's.
        IntegrityError: If a sampled image breaks a bound.
    """
    model, batch = request.model, request.batch
    network, margins = _network(model), _margins(model)
    around = region(request.ball, batch)
    traced = trace(network, batch.image[:1])
    noise = rng.child("audit").uniform(POINTS, *batch.image.shape[1:])
    cases = []
    for index in range(len(batch)):
        one = around[index]
        output = sampled(traced.network, one.centre).view_as(traced.output)
        claim = _claim(output, batch.target[index], margins)
        seen = sampled(traced.network, one.points(noise[index]))
        cases.append(_settle(request, traced, one, claim, seen))
    return {name: torch.stack([case[name] for case in cases]) for name in cases[0]}


def _network(model: Model) -> nn.Module:
    if not isinstance(model, TorchModel):
        raise UnsupportedError(f"certify: needs a torch network, got a {type(model).__name__}")
    if "context" in inspect.signature(model.network.forward).parameters:
        raise UnsupportedError("certify: a network that takes context cannot be bounded yet")
    return model.network


def _margins(model: Model) -> Callable[[Tensor, Tensor], SparseRows]:
    kind = model.task.kind
    if kind == "multilabel":
        return sign_margins
    if kind in ("classification", "segmentation"):
        return class_margins
    raise UnsupportedError(f"certify: no margin is defined for the task {kind}")


@dataclass(frozen=True)
class _Claim:
    """Margins of one case that are to be proved positive, grouped by what they decide.

    Attributes:
        rows: `units * each` rows.
        right: `(units,)`, where the clean image gets the true answer.
        scale: 1 + the largest output at the centre.
    """

    rows: SparseRows
    right: Tensor
    scale: float


def _claim(
    output: Tensor, target: Tensor, margins: Callable[[Tensor, Tensor], SparseRows]
) -> _Claim:
    if not output.isfinite().all():
        raise CaseError("the model's output is not finite")
    target = target.to(output.device)
    flags = margins is sign_margins
    expected = output.shape if flags else output.shape[1:]
    if target.shape != expected:
        raise CaseError(f"the target must be {tuple(expected)}, got {tuple(target.shape)}")
    if not flags and not (target.min() >= 0 and target.max() < len(output)):
        raise CaseError(f"the target holds class {int(target.max())}, the model has {len(output)}")
    right = (output > 0) == (target > 0) if flags else output.argmax(dim=0) == target
    scale = 1 + float(output.abs().max())
    return _Claim(margins(output, target.long()), right.flatten(), scale)


def _settle(
    request: Request, traced: Traced, one: Region, claim: _Claim, seen: Tensor
) -> dict[str, Tensor]:
    dense = request.model.task.kind == "segmentation"
    needed = request.slack * claim.scale
    units = len(claim.right)
    best = torch.full((units, len(claim.rows) // units), -math.inf).to(traced.output)
    for method in _rungs(request.method, dense=dense):
        # A wrong pixel or one that is proved needs no bound; elsewhere each margin is recorded.
        todo = claim.right & (best.amin(dim=1) <= needed) if dense else torch.ones_like(claim.right)
        if not todo.any():
            break
        rows = claim.rows.pick(todo.repeat_interleave(best.shape[1]))
        lower = lowest(traced, one, rows, method)
        audit(seen, rows, lower, max(request.slack, SLACK))
        best[todo] = torch.maximum(best[todo], lower.view(-1, best.shape[1]))
    margin = best.amin(dim=1)
    return _dense_values(claim, margin > needed) if dense else _values(claim, margin, needed)


def _rungs(method: Method, *, dense: bool) -> tuple[Method, ...]:
    upto = _LADDER[: _LADDER.index(method) + 1]
    return upto if dense else tuple(dict.fromkeys(("ibp", method)))


def _values(claim: _Claim, margins: Tensor, needed: float) -> dict[str, Tensor]:
    margin = margins.amin()
    certified = (claim.right.all() & (margin > needed)).float()
    falsified = (~claim.right.all()).float()
    return {
        "certified": certified,
        "falsified": falsified,
        "undecided": 1 - certified - falsified,
        "margin_bound": margin,
    }


def _dense_values(claim: _Claim, proved: Tensor) -> dict[str, Tensor]:
    proved = proved & claim.right
    return {
        "certified": proved.float().mean(),
        "falsified": (~claim.right).float().mean(),
        "undecided": (claim.right & ~proved).float().mean(),
    }

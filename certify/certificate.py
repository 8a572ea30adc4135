"""From bounds on margins to what is proved about each case; shared by every bound method."""

import math
from typing import get_args

import torch
from torch import Tensor

from robustbench_med.certify.audit import POINTS, audit, sampled
from robustbench_med.certify.ladder import RUNGS, Rung
from robustbench_med.certify.lirpa import SLACK, Method, lowest
from robustbench_med.certify.lowering import Lowered, lowered
from robustbench_med.certify.proving import proved
from robustbench_med.certify.region import Region, region
from robustbench_med.certify.request import Claim, Request, claim_of, margins_of, network_of
from robustbench_med.certify.trace import Traced, trace
from robustbench_med.errors import UnsupportedError
from robustbench_med.probes import Values
from robustbench_med.streams import CaseRng

# Cheap methods first: what they prove need not be bounded again.
_LADDER: tuple[Method, ...] = ("ibp", "crown_ibp", "crown")


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
    network, margins = network_of(model), margins_of(model)
    around = region(request.ball, batch)
    noise = rng.child("audit").uniform(POINTS, *batch.image.shape[1:])
    try:
        written: Lowered | None = lowered(network, batch.image[:1])
    except UnsupportedError:
        if request.method not in get_args(Method):
            raise
        written = None
    if written is not None:
        return proved(request, written, around, noise)
    traced = trace(network, batch.image[:1])
    cases = []
    for index in range(len(batch)):
        one = around[index]
        output = sampled(traced.network, one.centre).view_as(traced.output)
        claim = claim_of(output, batch.target[index], margins)
        seen = sampled(traced.network, one.points(noise[index]))
        cases.append(_settle(request, traced, one, claim, seen))
    return {name: torch.stack([case[name] for case in cases]) for name in cases[0]}


def _settle(
    request: Request, traced: Traced, one: Region, claim: Claim, seen: Tensor
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


def _rungs(method: Rung, *, dense: bool) -> tuple[Method, ...]:
    upto = _LADDER[: RUNGS.index(method) + 1]
    return upto if dense else tuple(dict.fromkeys(("ibp", upto[-1])))


def _values(claim: Claim, margins: Tensor, needed: float) -> dict[str, Tensor]:
    margin = margins.amin()
    certified = (claim.right.all() & (margin > needed)).float()
    falsified = (~claim.right.all()).float()
    return {
        "certified": certified,
        "falsified": falsified,
        "undecided": 1 - certified - falsified,
        "margin_bound": margin,
    }


def _dense_values(claim: Claim, proved: Tensor) -> dict[str, Tensor]:
    proved = proved & claim.right
    return {
        "certified": proved.float().mean(),
        "falsified": (~claim.right).float().mean(),
        "undecided": (claim.right & ~proved).float().mean(),
    }

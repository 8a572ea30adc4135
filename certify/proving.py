"""Prove about each case of a batch on the network as it is written out, with certificates."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustbench_med.certify.about import Asked, about_case, may_change
from robustbench_med.certify.audit import audit, sampled
from robustbench_med.certify.lirpa import SLACK, Method, lowest
from robustbench_med.certify.lowering import Lowered
from robustbench_med.certify.operators import without_dropout
from robustbench_med.certify.rebuilt import Rebuilt
from robustbench_med.certify.region import Region
from robustbench_med.certify.request import Claim, Request, claim_of, margins_of, network_of
from robustbench_med.certify.trace import Traced, trace
from robustbench_med.certify.written import Case, settle
from robustbench_med.errors import IntegrityError, UnsupportedError
from robustbench_med.probes import Certified


def proved(request: Request, written: Lowered, around: Region, noise: Tensor) -> Certified:
    """Prove about every case what can be proved, and have each proof checked.

    Args:
        request: What is asked.
        written: The model's network, written out for images of the batch's shape.
        around: Set of each case.
        noise: `(b, n, c, *s)`, uniform on [0, 1).

    Returns:
        Values as of `certify`, and the certificates.
    """
    batch, network = request.batch, _logits(request, written)
    radii = request.ball.radius(batch.image, batch.context).flatten()
    engine = _engine(request)
    asked = Asked(request.model, request.ball, request.method)
    values, certificates = [], []
    for index, case_id in enumerate(batch.case_ids):
        one = around[index]
        with torch.no_grad():
            output = network(one.centre)[0]
        claim = claim_of(output, batch.target[index], margins_of(request.model))
        case = Case(
            lowered=written,
            network=network,
            kind=request.model.task.kind,
            one=one,
            output=output,
            target=batch.target[index].to(output.device),
            free=may_change(request.ball, batch[index]),
            needed=request.slack * claim.scale,
            upto=request.method,
            about=about_case(asked, case_id, float(radii[index])),
        )
        found, certificate = settle(case, noise[index])
        if engine is not None:
            found = _with_engine(found, engine, one, case, claim)
        values.append(found)
        certificates.append((case_id, certificate))
    stacked = {name: torch.stack([case[name] for case in values]) for name in values[0]}
    return Certified(stacked, certificates)


def _engine(request: Request) -> Traced | None:
    """Let auto-LiRPA read the network as it is, if it can: it bounds poolings more closely.

    Not for a segmentation, whose margins are too many to be bounded twice.
    """
    if request.model.task.kind == "segmentation":
        return None
    try:
        return trace(network_of(request.model), request.batch.image[:1])
    except UnsupportedError:
        return None


def _with_engine(
    found: Mapping[str, Tensor], engine: Traced, one: Region, case: Case, claim: Claim
) -> dict[str, Tensor]:
    """Take auto-LiRPA's limits where they are better; what only they prove is not checked."""
    method: Method = "crown"  # slopes and splits are not auto-LiRPA's here
    if case.upto in {"ibp", "crown_ibp"}:
        method = case.upto
    limits = [lowest(engine, one, claim.rows, each) for each in dict.fromkeys(("ibp", method))]
    lower = torch.stack(limits).amax(dim=0)
    seen = sampled(engine.network, one.points(one.centre.new_zeros(0, *one.centre.shape[1:])))
    audit(seen, claim.rows, lower, SLACK)
    margin = torch.maximum(found["margin_bound"], lower.amin().cpu())
    proved = bool(claim.right.all() and margin > case.needed)
    if proved and found["falsified"]:
        raise IntegrityError(
            f"certify: case {case.about['case_id']!r}: auto-LiRPA bounds its smallest margin below "
            f"by {margin:.6g}, and a search found an image that is answered wrongly"
        )
    return {
        **found,
        "margin_bound": margin,
        "certified": torch.tensor(float(proved)),
        "undecided": torch.tensor(float(not proved and not found["falsified"])),
    }


def _logits(request: Request, written: Lowered) -> nn.Module:
    """Copy the network, without what it ends in: margins keep their signs through a softmax."""
    if written.head:
        device, dtype = request.batch.image.device, request.batch.image.dtype
        return Rebuilt(written.network, dtype).to(device).eval()
    plain = without_dropout(copy.deepcopy(network_of(request.model))).eval()
    return plain.requires_grad_(requires_grad=False)

"""Limits of rows from every engine of the package, and by how much points break them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med import bound
from robustbench_med.certify.branching import Search
from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.lirpa import SLACK, Method, lowest
from robustbench_med.certify.margin import DenseRows
from robustbench_med.certify.region import Region
from robustbench_med.certify.trace import trace
from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs.check import check
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import InputSet
from soundness_parts.points import Domain, Seen

METHODS: tuple[Method, ...] = ("ibp", "crown_ibp", "crown")
OUT_OF_REACH = 1e30
SPLIT = Search(budget=40)


@dataclass(frozen=True)
class Limit:
    """Limits of all sides of one engine.

    Attributes:
        engine: Its name.
        values: `(2 r,)`, rows and then their negatives; minus infinity where there is none.
        slack: What points may fall below by, relative to 1 + the largest magnitude.
    """

    engine: str
    values: Tensor
    slack: float = 0.0


def engines(network: nn.Module, domain: Domain, rows: Tensor) -> list[Limit]:
    """Bound by auto-LiRPA in the network's own type; nothing where it refuses.

    Args:
        network: In evaluation mode.
        domain: Its corners have values of the network's type.
        rows: `(r, m)`.
    """
    like = next(network.parameters())
    low, high, centre = (each.to(like) for each in (domain.low, domain.high, domain.centre))
    found = []
    try:
        for method in METHODS:
            if domain.radius is None:
                lower, upper = bound(network, low, high, rows.to(like), method=method)
                both = torch.cat([lower[0], -upper[0]])
            else:
                region = Region(low, high, centre, torch.tensor([domain.radius]).to(like))
                asked = DenseRows(torch.cat([rows, -rows]).to(like))
                both = lowest(trace(network, centre), region, asked, method)
            found.append(Limit(f"auto-LiRPA {method}", both.double(), SLACK))
    except UnsupportedError:
        return []
    return found


def ladder(network: Network, domain: Domain, rows: Tensor, seen: Seen) -> list[Limit]:
    """Bound by the ladder, rung by rung; proofs are checked, and their limits are looked at, too.

    Args:
        network: Written out.
        domain: The set.
        rows: `(r, m)`, with few factors other than 0.
        seen: What points reach of all sides: what is branched on lies between that and a limit.
    """
    inputs = as_inputs(domain)
    both = torch.cat([rows, -rows])
    asked = sparse(both)
    found = []
    for rung in ("ibp", "crown_ibp", "crown"):
        climbed = climb(network, inputs, asked, Effort(rung, needed=-OUT_OF_REACH, close=True))
        found.append(Limit(f"ours {rung}", torch.as_tensor(climbed.limits)))
        derived = np.full(len(both), -np.inf)
        derived[climbed.limits > -OUT_OF_REACH] = check(network, climbed.proof)
        # What the checker derives again is a little more than what is claimed: as much as is
        # left to the rounding of the network that is looked at.
        found.append(Limit("checker", torch.as_tensor(derived), 1e-13))
    plain = found[-2].values
    if not network.relus:
        return found
    own = Effort("alpha_crown", needed=OUT_OF_REACH, close=True, most=6)
    found.append(Limit("ours alpha", torch.as_tensor(climb(network, inputs, asked, own).limits)))
    row = int((seen.lowest - plain).argmax())
    found.append(_branched(network, inputs, both, row, (plain[row], seen.lowest[row])))
    return found


def _branched(
    network: Network, inputs: InputSet, both: Tensor, row: int, between: tuple[Tensor, Tensor]
) -> Limit:
    needed = float(between[0] + (between[1] - between[0]) / 2)
    effort = Effort("branch_and_bound", needed=needed, search=SPLIT)
    climbed = climb(network, inputs, sparse(both[row : row + 1]), effort)
    if len(climbed.proof.claims.limits):
        check(network, climbed.proof)
    values = torch.full((len(both),), -torch.inf, dtype=torch.float64)
    values[row] = float(climbed.limits[0])
    return Limit("ours branch and bound", values)


def as_inputs(domain: Domain) -> InputSet:
    """Write a set down for a proof."""
    low, high, centre = (each[0].numpy() for each in (domain.low, domain.high, domain.centre))
    if domain.radius is None:
        return InputSet(low, high)
    return InputSet(low, high, centre, domain.radius)


def sparse(rows: Tensor) -> Rows:
    """Name the factors of rows `(r, m)` that are not 0, as many for each."""
    count = int((rows != 0).sum(dim=1).max())
    columns = rows.abs().topk(count, dim=1).indices
    return Rows(columns.numpy(), rows.gather(1, columns).numpy())


def broken_by(limit: Limit, seen: Seen) -> dict[str, float | int | str]:
    """Compare limits with what was reached: the worst row, and how wide the limits are.

    Returns:
        `worst`: limit minus value, above 0 where a point lies below its limit; `over`: the same,
        less the slack; `relative`: worst by width; `width` and `reached`, means over rows that
        are bounded on both sides.
    """
    gap = limit.values - seen.lowest
    allowed = limit.slack * (1 + seen.largest)
    worst = int(gap.argmax())
    half = len(gap) // 2
    width = -limit.values[:half] - limit.values[half:]
    reached = -seen.lowest[:half] - seen.lowest[half:]
    known = width.isfinite() & (width < OUT_OF_REACH)
    middle = float(width[known].mean()) if bool(known.any()) else float("nan")
    span = float(width[worst % half])
    return {
        "engine": limit.engine,
        "rows": int(limit.values.isfinite().sum()),
        "worst": float(gap[worst]),
        "over": float(gap[worst]) - allowed,
        "relative": float(gap[worst]) / span if np.isfinite(span) and span > 0 else float("nan"),
        "violations": int((gap > allowed).sum()),
        "width": middle,
        "reached": float(reached[known].mean()) if bool(known.any()) else float("nan"),
    }


def by_tool(tool: str, limits: list[dict[str, Any]]) -> dict[str, Any]:
    """Put what one tool's methods came to into one entry: the worst of all, the width of CROWN."""
    own = [each for each in limits if each["engine"].startswith(tool)]
    close = [each for each in own if each["engine"] == f"{tool} crown"] or own[:1]
    sums = {name: sum(each[name] for each in own) for name in ("rows", "violations")}
    most = {name: max(each[name] for each in own) for name in ("worst", "over")}
    known = [each["relative"] for each in own if not math.isnan(each["relative"])]
    most["relative"] = max(known, default=0.0)
    wide = {name: close[0][name] for name in ("width", "reached")}
    numbers = {name: float(f"{number:.4g}") for name, number in (most | wide).items()}
    return {"engine": tool, **sums, **numbers}

"""Networks whose truth is known by enumeration, and sets that are cut into parts."""

import runpy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.certify.branching import Search
from robustbench_med.certify.cutting import Halving, cut_until
from robustbench_med.certify.input_sets import on_torch
from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.ranges import range_over
from robustbench_med.certify.torch_nodes import operations, values
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import Base, Claims, Cut, InputSet, Leaf, Proof
from robustbench_med.proofs.sets import halved
from soundness_parts.families import TESTS, perceptron
from soundness_parts.limits import Limit, as_inputs, broken_by, ladder, sparse
from soundness_parts.points import Domain, Seen, Spent, looked_at

MADE = SimpleNamespace(**runpy.run_path(str(Path(TESTS) / "proofs_fixture.py")))
CLOSE = 1e-5
LIKE = torch.zeros((), dtype=torch.float64)


def enumerated(seed: int) -> dict[str, Any]:
    """Compare all rungs with the exact minimum of a skip-connected network of seven ReLUs.

    Branch and bound has to prove a hair less than the truth, and to find a point where a hair
    more is wrong.
    """
    started = time.process_time()
    network = MADE.skipping(seed)
    stream = np.random.default_rng([9, seed])
    inputs = MADE.around(stream.uniform(-0.5, 0.5, 2), float(stream.uniform(0.2, 0.8)))
    domain = _domain(inputs)
    rows = torch.tensor([[1.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    parts = operations(network, LIKE)
    seen = looked_at(lambda x: values(parts, x)[-1], domain, torch.cat([rows, -rows]),
                     Spent(256, 4, 12), seed)  # fmt: skip
    found = [broken_by(each, seen) for each in ladder(network, domain, rows, seen)]
    row = rows[0].numpy()
    truth = MADE.exact_minimum(network, inputs, row)
    exact = Seen(torch.tensor([truth, np.inf, np.inf, np.inf]), 0, seen.largest)
    asked = sparse(rows[:1])
    for rung in ("crown", "alpha_crown"):
        climbed = climb(network, inputs, asked, Effort(rung, needed=1e9, close=True))
        found.append(_against_truth(rung, climbed.limits[0], exact))
    search = Search(budget=2000)
    below = climb(network, inputs, asked, _all(truth - CLOSE * (1 + abs(truth)), search))
    found.append(_against_truth("branch and bound", below.limits[0], exact))
    above = climb(network, inputs, asked, _all(truth + CLOSE * (1 + abs(truth)), search))
    reached = len(below.proof.claims.limits) == 1 and 0 in above.falsifiers
    if reached:
        check(network, below.proof)
    return {
        "family": "tiny, enumerated", "name": "seven ReLUs", "set": "linf", "seed": seed,
        "points": seen.points, "rows": 4, "refused": "", "limits": found,
        "truth_reached": reached, "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def _all(needed: float, search: Search) -> Effort:
    return Effort("branch_and_bound", needed=needed, search=search)


def _against_truth(rung: str, limit: float, exact: Any) -> dict[str, Any]:  # noqa: ANN401
    # The truth comes from linear programmes, whose own tolerance is 1e-7 at worst.
    values_ = torch.tensor([limit, -np.inf, -np.inf, -np.inf], dtype=torch.float64)
    return broken_by(Limit(f"ours {rung} against the truth", values_, 1e-8), exact)


def _domain(inputs: InputSet) -> Domain:
    low, high = torch.as_tensor(inputs.low)[None], torch.as_tensor(inputs.high)[None]
    return Domain(low, high, (low + high) / 2)


class Field(nn.Module):
    """An image under three coefficients, and convolutions of it."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Linear(3, 36)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip

    def forward(self, given: Tensor) -> Tensor:
        """Map `(b, 3)` to `(b, 3)`."""
        logits: Tensor = self.layers(self.spread(given).view(-1, 1, 6, 6))
        return logits


def cut(seed: int, *, ball: bool) -> dict[str, Any]:
    """Halve a set's box, and look within each part for what breaks the limits there.

    Limits of torch on each part, in float64, and those that the checker derives of a proof with
    the same cuts.
    """
    started = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (perceptron(3, 12, 12, 3) if seed % 2 else Field()).double().eval()
    network.requires_grad_(requires_grad=False)
    centre = torch.rand(1, 3, generator=torch.Generator().manual_seed(seed)).double()
    domain = Domain(centre - 0.6, centre + 0.6, centre, 0.6 if ball else None)
    rows = torch.eye(3, dtype=torch.float64)
    rows[2, 0] = -1.0
    written = lowered(network, centre).network
    limits, derived = _on_parts(written, as_inputs(domain), rows)
    found, lowest, points, largest = [], torch.full((6,), torch.inf).double(), 0, 0.0
    for place, (cuts, least) in enumerate(limits):
        part = _part(domain, as_inputs(domain), cuts)
        if part is None:
            continue
        seen = looked_at(network, part, torch.cat([rows, -rows]), Spent(128, 3, 10), place)
        found.append(broken_by(Limit("ours, parts of a set", least, 1e-12), seen))
        points, largest = points + seen.points, max(largest, seen.largest)
        lowest = torch.minimum(lowest, seen.lowest)
    whole = Seen(lowest, points, largest)
    found.append(broken_by(Limit("checker", derived, 1e-13), whole))
    found += [broken_by(each, whole) for each in ladder(written, domain, rows, whole)]
    return {
        "family": "cut inputs", "name": "ball" if ball else "box", "set": "l2" if ball else "linf",
        "seed": seed, "points": points, "rows": 6, "refused": "", "limits": found,
        "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def _on_parts(
    network: Network, inputs: InputSet, rows: Tensor
) -> tuple[list[tuple[tuple[Cut, ...], Tensor]], Tensor]:
    """Parts of a set, each with limits of all sides there; what the checker says of the whole."""
    parts, sets = operations(network, LIKE), on_torch(inputs, LIKE)
    ranges = range_over(parts, sets, rows, boxes=12)
    limits = list(zip(ranges.cuts, torch.cat([ranges.lowers, -ranges.uppers], 1), strict=True))
    halves = cut_until(parts, sets, rows, needed=0.0, halving=Halving(budget=31))
    for piece in halves.pieces:
        least = torch.full((2 * len(rows),), -torch.inf).double()
        least[list(piece.rows)] = torch.tensor(piece.limits).double()
        limits.append((piece.cuts, least))
    bases = tuple(derive(network, inputs, each) for each in ranges.cuts)
    derived = check(network, _proof(inputs, sparse(torch.cat([rows, -rows])), bases))
    return limits, torch.as_tensor(derived)


def _proof(inputs: InputSet, rows: Rows, bases: tuple[Base, ...]) -> Proof:
    claims = Claims(rows.columns, rows.values, np.full(len(rows), -1e30))
    leaves = tuple(Leaf(place, np.arange(len(rows))) for place in range(len(bases)))
    return Proof(inputs, claims, bases, leaves)


def _part(domain: Domain, inputs: InputSet, cuts: tuple[Cut, ...]) -> Domain | None:
    """A part of a set; None where the ball does not reach into the box."""
    part = halved(inputs, cuts)
    low, high = torch.as_tensor(part.low)[None], torch.as_tensor(part.high)[None]
    if domain.radius is None:
        return Domain(low, high, (low + high) / 2, None)
    away = float((domain.centre.clamp(low, high) - domain.centre).norm())
    return _Cut(low, high, domain.centre, domain.radius) if away <= domain.radius else None


class _Cut(Domain):
    """A box that the ball's centre need not be in: points are moved between the two in turn."""

    def inside(self, points: Tensor) -> Tensor:
        """Draw points into both, as far as some turns take them; others become the nearest."""
        for _ in range(30):
            points = super().inside(points)
        reach = (points - self.centre).flatten(1).norm(dim=1) <= (self.radius or 0.0)
        nearest = self.centre.clamp(self.low, self.high).expand_as(points)
        return torch.where(reach.view(-1, *[1] * (points.ndim - 1)), points, nearest)

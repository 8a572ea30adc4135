"""One network over one set: limits of all engines, points, and what they say of each other."""

import copy
import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustbench_med.certify.lowering import lowered
from robustbench_med.errors import UnsupportedError
from soundness_parts.families import Subject
from soundness_parts.limits import broken_by, engines, ladder
from soundness_parts.points import Domain, Run, Spent, looked_at

Shape = Literal["linf", "l2", "support"]
SHAPES: tuple[Shape, ...] = ("linf", "l2", "support")
ROWS = 8


def tried(subject: Subject, shape: Shape, seed: int, spent: Spent) -> dict[str, Any]:
    """Bound and attack.

    Returns:
        Counts, what each engine's limits came to, and seconds of processor time.
    """
    started = time.process_time()
    network = subject.built(seed)
    domain = set_of(subject, shape, seed)
    run, vectorised = runs(network, subject, domain.centre)
    with torch.no_grad():
        rows = rows_of(run(domain.centre).shape[1], seed)
    both = torch.cat([rows, -rows])
    less = spent if vectorised else Spent(spent.drawn // 8, 1, spent.steps // 3)
    seen = looked_at(run, domain, both, less, seed)
    limits = engines(network, domain, rows)
    try:
        written = lowered(network, domain.centre.to(next(network.parameters())))
        limits += ladder(written.network, domain, rows, seen)
    except UnsupportedError as error:
        refused = str(error)
    else:
        refused = ""
    return {
        "family": subject.family, "name": subject.name, "set": shape, "seed": seed,
        "points": seen.points, "rows": len(both), "refused": refused,
        "limits": [broken_by(limit, seen) for limit in limits],
        "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def set_of(subject: Subject, shape: Shape, seed: int) -> Domain:
    """Draw a set whose numbers are exact in float32; "support": half of the pixels stay as are."""
    stream = torch.Generator().manual_seed(1000 + seed)
    centre = torch.rand(1, *subject.shape, generator=stream)
    eps = subject.eps * float(0.5 + torch.rand(1, generator=stream))
    low, high, radius = centre - eps, centre + eps, None
    if shape == "l2":
        radius = float(torch.tensor(eps * centre.numel() ** 0.5 / 2))
        low, high = (centre - radius).clamp(min=0), (centre + radius).clamp(max=1)
    if shape == "support":
        free = torch.rand(centre.shape, generator=stream) < 0.5
        low, high = torch.where(free, low, centre), torch.where(free, high, centre)
    return Domain(low.double(), high.double(), centre.double(), radius)


def runs(network: nn.Module, subject: Subject, centre: Tensor) -> tuple[Run, bool]:
    """Let a network answer many images at once, in float64; False where one by one is all it can.

    Its weights stay in place for those who bound it in its own type: this is a copy.
    """
    double = copy.deepcopy(network).double()

    def single(image: Tensor) -> Tensor:
        flat: Tensor = double(image[None]).reshape(-1)
        return flat

    if not subject.one_case:
        return (lambda images: _answered(double, images)), True
    mapped = torch.func.vmap(single)
    pair = torch.cat([centre, centre + 0.1])
    alone = torch.stack([single(each) for each in pair])
    try:
        if torch.allclose(mapped(pair), alone, rtol=1e-12, atol=1e-12):
            return mapped, True
    except (AssertionError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        pass
    return (lambda images: torch.stack([single(each) for each in images])), False


def _answered(double: nn.Module, images: Tensor) -> Tensor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of constants that it makes on the way
    try:
        flat: Tensor = double(images).flatten(1)
    finally:
        torch.set_default_dtype(before)
    return flat


def rows_of(outputs: int, seed: int) -> Tensor:
    """Single outputs, at both ends too, and differences of two: `(r, m)`."""
    stream = torch.Generator().manual_seed(2000 + seed)
    rows = torch.zeros(ROWS, outputs, dtype=torch.float64)
    for at in range(ROWS):
        one, other = torch.randint(outputs, (2,), generator=stream).tolist()
        rows[at, {0: 0, 1: outputs - 1}.get(at, one)] = 1.0
        if at >= ROWS // 2:
            rows[at, other] = -1.0
    return rows

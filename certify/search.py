"""A short search for images of a region that break margins, before any is bounded."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.certify.margin import SparseRows
from robustbench_med.certify.region import Region

STEPS, STARTS = 12, 2
_SHARE = 0.1  # of the median margin: which margins count as near


@dataclass(frozen=True)
class Found:
    """What a search saw of each row.

    Attributes:
        lowest: `(r,)`, the smallest value met.
        image: `(r,)`, which of the images gave it.
        images: `(n, c, *s)`, all inside the region.
    """

    lowest: Tensor
    image: Tensor
    images: Tensor


def searched(network: nn.Module, one: Region, rows: SparseRows, noise: Tensor) -> Found:
    """Look for low values of rows over the region of one case.

    Centre, corners and random points are tried; then signed gradient steps go down from them, on a
    sum that counts the margins near 0 most. An attack is better at this: what is meant here is to
    leave out of a proof what cannot be proved, and to catch a limit that does not hold.

    Args:
        network: In evaluation mode, without gradients of its own.
        one: Of one case.
        rows: Margins, of its flattened outputs.
        noise: `(m, c, *s)`, uniform on [0, 1), at least `STARTS`.
    """
    points = [point[None] for point in one.points(noise)]
    with torch.no_grad():
        values = torch.cat([rows.of(network(point).flatten(1)) for point in points])
    scale = _SHARE * values[0].abs().median() + 1e-12
    for start in (points[0], *points[-STARTS + 1 :]):
        for point, value in _descent(network, one, rows, start, scale):
            points.append(point)
            values = torch.cat([values, value])
    lowest, image = values.min(dim=0)
    return Found(lowest, image, torch.cat(points))


def _descent(
    network: nn.Module, one: Region, rows: SparseRows, start: Tensor, scale: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return some points on the way down, with the rows' values there."""
    point, seen = start, []
    for step in range(STEPS):
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            value = rows.of(network(point).flatten(1))
            (slope,) = torch.autograd.grad(torch.sigmoid(-value / scale).sum(), point)
        if step in (STEPS // 2, STEPS - 1):
            seen.append((point.detach(), value.detach()))
        point = _inside(one, point.detach() + _stride(one, slope) * (2 / (2 + step)))
    with torch.no_grad():
        seen.append((point, rows.of(network(point).flatten(1))))
    return seen


def _stride(one: Region, slope: Tensor) -> Tensor:
    stride: Tensor = slope.sign() * (one.high - one.low) / 2
    if one.radius is not None:
        stride = slope / slope.norm().clamp(min=1e-30) * one.radius
    return stride


def _inside(one: Region, point: Tensor) -> Tensor:
    point = point.clamp(one.low, one.high)
    if one.radius is None:
        return point
    offset = point - one.centre
    # A hair less than the radius, for the rounding of the sum.
    scale = (one.radius * (1 - 1e-6) / offset.norm().clamp(min=1e-30)).clamp(max=1)
    inside: Tensor = one.centre + offset * scale
    return inside

"""Nearest points of a ball cut by a box, exactly, for many cases at once.

Everything is an offset from the ball's centre, flat, `(b, n)`, and every radius `(b, 1)`. `low` and
`high` say where the box ends: `low <= 0 <= high`, infinite where it does not, broadcastable.
"""

import torch
from torch import Tensor

MOST_STEPS = 200


def onto_l2(offset: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Nearest point of the box whose l2 norm is at most `radius`.

    Source: the Karush-Kuhn-Tucker conditions: `clamp(share * offset, low, high)` with one share
    per case, of at most 1.
    """
    length = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
    if bool(length.isfinite().all()):
        return _fill_l2(offset, length, radius, (low, high), torch.ones_like(length))
    unit = offset.abs().amax(dim=1, keepdim=True).clamp(min=1)  # squares overflow far outside
    near = offset / unit
    length = torch.linalg.vector_norm(near, dim=1, keepdim=True)
    return _fill_l2(near, length, radius, (low, high), unit)


def _fill_l2(
    offset: Tensor, length: Tensor, radius: Tensor, box: tuple[Tensor, Tensor], most: Tensor
) -> Tensor:
    """`clamp(share * offset)` of norm `radius`, or with the share `most` if that is shorter.

    The squared norm is concave and piecewise linear in the squared share, so Newton's method from
    below never steps too far, and ends exactly once it is on the root's piece.
    """
    share = (radius / length.clamp(min=torch.finfo(length.dtype).tiny)).minimum(most)
    enough = radius * (1 - 16 * torch.finfo(length.dtype).eps)
    scaled = offset * share
    point = scaled.clamp(*box)
    for _ in range(MOST_STEPS):
        size = torch.linalg.vector_norm(point, dim=1, keepdim=True)
        settled = (size >= enough) | (share == most)
        if bool(settled.all()):
            break
        free = torch.linalg.vector_norm(offset.where(point == scaled, 0), dim=1, keepdim=True)
        left = (radius - size) * (radius + size)
        wider = (share.square() + left / free.square()).sqrt().where(free > 0, most)
        share = share.where(settled, wider.minimum(most).maximum(share))
        scaled = offset * share
        point = scaled.clamp(*box)
    return point


def onto_l1(offset: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Nearest point of the box whose l1 norm is at most `radius`.

    Sizes are lowered by one threshold per case, then cut off by the box. The threshold is the root
    of a falling, piecewise linear function: Newton's method in a bracket, every third step a
    bisection.

    Source: Duchi et al., ICML 2008, for the threshold; with a box: the Karush-Kuhn-Tucker
    conditions.
    """
    size, room = offset.abs(), room_of(offset, low, high)
    threshold = torch.zeros_like(radius)
    lower, upper = threshold, size.amax(dim=1, keepdim=True)
    rounding = 4 * torch.finfo(size.dtype).eps
    for step in range(MOST_STEPS):
        above = (size - threshold).clamp(min=0)
        excess = above.minimum(room).sum(dim=1, keepdim=True) - radius
        lower, upper = threshold.where(excess > 0, lower), threshold.where(excess <= 0, upper)
        settled = (excess.abs() <= rounding * radius) | (upper - lower <= rounding * upper)
        if bool(settled.all()):
            break
        free = ((above > 0) & (above < room)).sum(dim=1, keepdim=True)
        newton, middle = threshold + excess / free, (lower + upper) / 2
        useful = (newton > lower) & (newton < upper) & (step % 3 < 2)
        threshold = threshold.where(settled, newton.where(useful, middle))
    return _between(size, room, radius, (lower, upper)).copysign(offset)


def _between(size: Tensor, room: Tensor, radius: Tensor, bracket: tuple[Tensor, Tensor]) -> Tensor:
    """Mix the sizes at both ends of the bracket so that they sum to the radius.

    Where sizes are large against the radius, no threshold is fine enough to do that alone.
    """
    long, short = ((size - end).clamp(min=0).minimum(room) for end in bracket)
    most, least = (sizes.sum(dim=1, keepdim=True) for sizes in (long, short))
    share = ((radius - least) / (most - least)).where(most > least, 0)
    return short + (long - short) * share


def room_of(direction: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far each voxel can go from 0 in its direction before the box ends."""
    return high.where(direction > 0, -low)


def corner_l1(slope: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The point of ball and box that lies farthest along `slope`.

    The radius is spent on the voxels of the steepest slopes, each as far as the box lets it.

    Source: the fractional knapsack problem, which greedy choice solves.
    """
    steepness, order = slope.abs().sort(dim=1, descending=True, stable=True)
    room = room_of(slope, low, high).expand_as(slope).minimum(radius)
    room = room.gather(1, order).where(steepness > 0, 0)
    spent = room.cumsum(dim=1) - room
    amount = (radius - spent).clamp(min=0).minimum(room)
    return torch.zeros_like(slope).scatter(1, order, amount) * slope.sign()

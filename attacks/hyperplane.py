"""The nearest point of a plane inside a box, for many cases at once."""

import torch
from torch import Tensor

from robustbench_med.attacks.gradient import per_case
from robustbench_med.projections import MOST_STEPS
from robustbench_med.threat import Norm


def onto_plane(
    point: Tensor, slope: Tensor, value: Tensor, low: Tensor, high: Tensor, norm: Norm
) -> Tensor:
    """Shortest move from `point` to the plane `value + slope . move = 0`, inside a box.

    Where the plane does not cross the box, the move that comes nearest to it. Exact. Under linf
    and l2 every voxel moves by `min(t * speed, room)` for one `t` a case, where `speed` is 1 or the
    size of the slope. Under l1 the voxels of the steepest slopes go to the end of their room, one
    after the other, until the plane is reached.

    Args:
        point: `(b, c, *s)`, inside the box.
        slope: Normal of the plane, `(b, c, *s)`.
        value: Of the linear function at `point`, `(b,)`.
        low: Where the box ends, broadcastable to `point`, infinite where it does not; so `high`.
        high: See `low`.
        norm: What is short.

    Source: Croce and Hein, ICML 2020, section 2.2, arXiv:1907.02044, derived here from the
    Karush-Kuhn-Tucker conditions; l1 is the fractional knapsack problem.
    """
    scale = slope.flatten(start_dim=1).abs().amax(dim=1).clamp(min=torch.finfo(slope.dtype).tiny)
    way = -slope * per_case(value.sign() / scale, slope)
    room = torch.where(way > 0, high - point, point - low).clamp(min=0).where(way != 0, 0)
    gain, limit = (part.flatten(start_dim=1).double() for part in (way.abs(), room))
    need = (value.abs().double() / scale.double())[:, None]
    if norm == "l1":
        return way.sign() * _greedy(gain, limit, need).to(point).view_as(point)
    speed = (way != 0).to(way) if norm == "linf" else way.abs()
    share = _share(gain, speed.flatten(start_dim=1).double(), limit, need).to(point)
    return way.sign() * (speed * per_case(share, point)).minimum(room)


def _share(gain: Tensor, speed: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Smallest `t` for which the sum of `gain * min(t * speed, room)` is `need`, `(b, 1)`.

    Where no `t` is enough, one that fills all room. The sum is concave and piecewise linear in
    `t`, so Newton's method from 0 never steps too far, and ends exactly on the root's piece.
    """
    rates, ends = gain * speed, gain * room
    share, filled = torch.zeros_like(need), None
    for _ in range(MOST_STEPS):
        full = share * speed >= room
        count = full.sum()
        if filled is not None and bool(count == filled):
            break
        filled = count
        rate = rates.where(~full, 0).sum(dim=1, keepdim=True)
        left = need - ends.where(full, 0).sum(dim=1, keepdim=True)
        share = (left / rate).where(rate > 0, share).maximum(share)
    return share


def _greedy(gain: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Moves of least sum, at most `room`, for which that of `gain * move` is `need`, `(b, n)`."""
    gain, order = gain.sort(dim=1, descending=True, stable=True)
    room = room.gather(1, order)
    filled = (gain * room).nan_to_num(nan=0.0, posinf=torch.inf).cumsum(dim=1)
    filled = torch.cat([torch.zeros_like(need), filled[:, :-1]], dim=1)
    move = ((need - filled) / gain).clamp(min=0).minimum(room).where(gain > 0, 0)
    return torch.zeros_like(move).scatter(1, order, move)

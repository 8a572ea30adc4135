"""The nearest point of a plane inside a box, for many cases at once."""

import torch
from torch import Tensor

from robustbench_med.attacks.gradient import per_case
from robustbench_med.errors import UnsupportedError
from robustbench_med.threat import Norm


def onto_plane(
    point: Tensor, slope: Tensor, value: Tensor, low: Tensor, high: Tensor, norm: Norm
) -> Tensor:
    """Shortest move from `point` to the plane `value + slope . move = 0`, inside a box.

    Where the plane does not cross the box, the move that comes nearest to it. Exact: every voxel
    moves by `min(t * speed, room)` for one `t` a case, where `speed` is 1 under linf and the size
    of the slope under l2, and what all moves add up to is a concave, piecewise linear function of
    `t`, whose kinks are sorted.

    Args:
        point: `(b, c, *s)`, inside the box.
        slope: Normal of the plane, `(b, c, *s)`.
        value: Of the linear function at `point`, `(b,)`.
        low: Where the box ends, broadcastable to `point`, infinite where it does not; so `high`.
        high: See `low`.
        norm: "linf" or "l2".

    Raises:
        UnsupportedError: For another norm.

    Source: Croce and Hein, ICML 2020, section 2.2, arXiv:1907.02044, derived here from the
    Karush-Kuhn-Tucker conditions.
    """
    if norm not in ("linf", "l2"):
        raise UnsupportedError(f"onto_plane: knows linf and l2, got {norm}")
    scale = slope.flatten(start_dim=1).abs().amax(dim=1).clamp(min=torch.finfo(slope.dtype).tiny)
    way = -slope * per_case(value.sign() / scale, slope)
    room = torch.where(way > 0, high - point, point - low).clamp(min=0).where(way != 0, 0)
    speed = (way != 0).to(way) if norm == "linf" else way.abs()
    gain, pace, limit = (part.flatten(start_dim=1).double() for part in (way.abs(), speed, room))
    share = _share(gain, pace, limit, value.abs().double() / scale.double())
    longest = speed * per_case(share.to(point), point)
    return way.sign() * longest.minimum(room)


def _share(gain: Tensor, speed: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Smallest `t` for which the sum of `gain * min(t * speed, room)` is `need`, `(b,)`."""
    kink = (room / speed).nan_to_num(nan=0.0, posinf=torch.inf)
    kink, order = kink.sort(dim=1)
    filled = (gain * room).gather(1, order).cumsum(dim=1)
    filled = torch.cat([torch.zeros_like(filled[:, :1]), filled[:, :-1]], dim=1)
    rate = (gain * speed).gather(1, order).flip(1).cumsum(dim=1).flip(1)
    enough = (filled + kink * rate).nan_to_num(nan=0.0, posinf=torch.inf) >= need[:, None]
    first = enough.to(torch.uint8).argmax(dim=1, keepdim=True)
    reached = (need[:, None] - filled.gather(1, first)) / rate.gather(1, first)
    finite = kink.nan_to_num(posinf=0.0).amax(dim=1)
    reached = reached.squeeze(1).nan_to_num(nan=0.0)
    return reached.clamp(min=0).where(enough.any(dim=1), finite)

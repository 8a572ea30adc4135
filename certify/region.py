"""The sets of images that a certificate speaks about."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.threat import Ball, per_case_norm


@dataclass(frozen=True)
class Region:
    """A box of images, cut with an l2 ball where there is a radius.

    Attributes:
        low: `(b, c, *s)`, the box's lower corner.
        high: `(b, c, *s)`, its upper corner.
        centre: `(b, c, *s)`, a point of it, and the ball's centre.
        radius: `(b,)`, of the l2 ball, or None.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    radius: Tensor | None = None

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: int) -> "Region":
        """Return the region of the case at `index` alone, still with a batch axis."""
        only = slice(index, index + 1)
        radius = None if self.radius is None else self.radius[only]
        return Region(self.low[only], self.high[only], self.centre[only], radius)

    def points(self, noise: Tensor) -> Tensor:
        """Centre, both corners, random corners and random points of a one-case region.

        Args:
            noise: `(n, c, *s)`, uniform on [0, 1); half of it is rounded to corners.

        Returns:
            `(3 + n, c, *s)`, all inside.
        """
        noise = noise.to(self.low)
        half = len(noise) // 2
        noise = torch.cat([noise[:half].round(), noise[half:]])
        inside = torch.lerp(self.low, self.high, noise)
        points = torch.cat([self.centre, self.low, self.high, inside])
        if self.radius is None:
            return points.clamp(self.low, self.high)
        offset = points - self.centre
        scale = (self.radius / per_case_norm(offset, "l2").clamp(min=1e-30)).clamp(max=1)
        return (self.centre + offset * scale).clamp(self.low, self.high)


def box(low: Tensor, high: Tensor) -> Region:
    """Check two corners and return the box between them.

    Raises:
        InputError: If shapes differ, a value is not finite, or `low` exceeds `high`.
    """
    if low.shape != high.shape or low.ndim < 2 or low.dtype != high.dtype:
        raise InputError(
            "bound: low and high must be of one type and shape (b, c, *s), "
            f"got {low.dtype} {tuple(low.shape)} and {high.dtype} {tuple(high.shape)}"
        )
    if not (low.isfinite().all() and high.isfinite().all()):
        raise InputError("bound: low and high must be finite, got NaN or an infinity")
    if (low > high).any():
        raise InputError(f"bound: low must not exceed high, got {int((low > high).sum())} that do")
    low, high = low.detach(), high.detach()
    return Region(low, high, low + (high - low) / 2)


def region(ball: Ball, batch: Batch) -> Region:
    """Enclose each case's ball, as `Ball.project` draws it.

    Raises:
        CaseError: If an image is not finite.
        UnsupportedError: If the ball is l1.
    """
    if ball.norm == "l1":
        raise UnsupportedError(f"certify: needs an linf or l2 ball, got {ball}")
    centre = batch.image.detach()
    if not centre.isfinite().all():
        raise CaseError("the image is not finite")
    radius = ball.radius(centre, batch.context)
    # Projection into the largest of the boxes moves a corner only by support and bounds.
    largest = Ball("linf", float(radius.max()), ball.bounds, support=ball.support)
    low = largest.project(centre - radius, centre, batch.context)
    high = largest.project(centre + radius, centre, batch.context)
    return Region(low, high, centre, radius.flatten() if ball.norm == "l2" else None)

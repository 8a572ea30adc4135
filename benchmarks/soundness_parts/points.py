"""Points of a set, drawn and attacked, and how low each row gets there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]
CHUNK = 256


@dataclass(frozen=True)
class Domain:
    """A box, cut with an l2 ball where there is a radius; all float64.

    Attributes:
        low: `(1, *s)`.
        high: `(1, *s)`.
        centre: `(1, *s)`, in the box.
        radius: Of the ball.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    radius: float | None = None

    def inside(self, points: Tensor) -> Tensor:
        """Draw points into the set; the centre is in the box, so the box stays kept."""
        points = points.clamp(self.low, self.high)
        if self.radius is None:
            return points
        offset = points - self.centre
        length = offset.flatten(1).norm(dim=1).view(-1, *[1] * (offset.ndim - 1))
        # A hair less, as the sum is rounded.
        scale = (self.radius * (1 - 1e-12) / length.clamp(min=1e-30)).clamp(max=1)
        return (self.centre + offset * scale).clamp(self.low, self.high)


@dataclass(frozen=True)
class Spent:
    """How many points are looked at.

    Attributes:
        drawn: Corners, as many between faces, as many within, as many along lines.
        starts: Attacks on each row.
        steps: Of each.
    """

    drawn: int = 512
    starts: int = 6
    steps: int = 24


@dataclass(frozen=True)
class Seen:
    """What the points say.

    Attributes:
        lowest: `(r,)`, the least value of each row.
        points: How many there were.
        largest: Magnitude of an output or a row, at most, for a slack that is relative.
    """

    lowest: Tensor
    points: int
    largest: float


def looked_at(run: Run, domain: Domain, rows: Tensor, spent: Spent, seed: int) -> Seen:
    """Evaluate all rows at all points; attacks go for each row by itself.

    Args:
        run: The network in float64: `(b, *s)` to `(b, m)`.
        domain: The set.
        rows: `(r, m)`.
        spent: How many points.
        seed: Of what is drawn.
    """
    stream = torch.Generator().manual_seed(seed)
    lowest = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    points, largest = 0, 0.0
    with torch.no_grad():
        for some in _drawn(domain, spent.drawn, stream):
            outputs = run(some)
            values = outputs @ rows.T
            lowest = torch.minimum(lowest, values.amin(dim=0))
            points, largest = points + len(some), max(largest, _size(outputs), _size(values))
    for first in range(0, len(rows) * spent.starts, CHUNK):
        each = torch.arange(first, min(first + CHUNK, len(rows) * spent.starts)) % len(rows)
        for outputs in _attacked(run, domain, rows[each], spent.steps, stream):
            values = outputs @ rows.T
            lowest = torch.minimum(lowest, values.amin(dim=0))
            points, largest = points + len(outputs), max(largest, _size(outputs), _size(values))
    return Seen(lowest, points, largest)


def _size(values: Tensor) -> float:
    return float(values.abs().max())


def _noise(like: Tensor, count: int, stream: torch.Generator) -> Tensor:
    return torch.rand(count, *like.shape[1:], generator=stream, dtype=torch.float64)


def _drawn(domain: Domain, count: int, stream: torch.Generator) -> Iterator[Tensor]:
    yield domain.inside(torch.cat([domain.centre, domain.low, domain.high]))
    low, high, centre = domain.low, domain.high, domain.centre
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        corner = torch.where(_noise(low, size, stream) < 0.5, low, high)
        within = torch.lerp(low, high, _noise(low, size, stream))
        share = torch.rand(size, *[1] * (low.ndim - 1), generator=stream, dtype=torch.float64)
        face = torch.where(_noise(low, size, stream) < share, corner, within)
        line = centre + (corner - centre) * share
        # Blocks of one sign, as smooth networks answer to them and hardly to noise.
        smooth = torch.where(_noise(low[..., :1], size, stream) < share, low, high)
        for kind in (corner, within, face, line, smooth.expand_as(corner)):
            yield domain.inside(kind)


def _attacked(
    run: Run, domain: Domain, rows: Tensor, steps: int, stream: torch.Generator
) -> Iterator[Tensor]:
    low, high = domain.low, domain.high
    image = domain.inside(torch.lerp(low, high, _noise(low, len(rows), stream)))
    for step in range(steps):
        image = image.detach().requires_grad_()
        outputs = run(image)
        (slope,) = torch.autograd.grad((outputs * rows).sum(), image)
        yield outputs.detach()
        length = 0.85**step
        if domain.radius is not None:
            flat = slope.flatten(1).norm(dim=1).view(-1, *[1] * (slope.ndim - 1))
            moved = image.detach() - slope / flat.clamp(min=1e-30) * domain.radius * 2 * length
        elif step % 3 == 1:
            moved = torch.where(slope > 0, low, high)
        else:
            moved = image.detach() - slope.sign() * (high - low) / 3 * length
        image = domain.inside(moved)

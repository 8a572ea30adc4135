"""How APGD moves: momentum, step sizes that halve where progress stalls, sparse steps under l1."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustbench_med.attacks.gradient import per_case, steepest
from robustbench_med.cases import Bounds
from robustbench_med.threat import Ball, Norm, Pull

_MOMENTUM = 0.75
_RISES = 0.75
_SPARSE_START = 0.2
_SPARSE_SHRINK = 1.5


@dataclass
class Climb:
    """Where the search of each case stands; every field has one row per case.

    Attributes:
        image: `(b, c, *s)`, the iterate; `before` is the one ahead of it.
        gradient: Of the objective at `image`.
        best: Image of the `highest` objective `(b,)` so far; `best_gradient` is its gradient.
        size: `(b, 1, *1)`, length of the next step; `largest` is the one to start from.
        last: `(b,)`, objective at `image`.
        rises: `(b,)`, steps since the last check that raised the objective.
        checked: `(b,)`, `highest` at the last check.
        shrunk: `(b,)`, whether that check halved the step.
        share: `(b,)`, share of the voxels that a step under l1 moves.
        moved: `(b,)`, voxels in which `best` differed from the clean image at the last check.
    """

    image: Tensor
    before: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    highest: Tensor
    size: Tensor
    largest: Tensor
    last: Tensor
    rises: Tensor
    checked: Tensor
    shrunk: Tensor
    share: Tensor
    moved: Tensor


def begin(clean: Tensor, start: Tensor, radius: Tensor, norm: Norm, *, warm: bool) -> Climb:
    """Start from `start` `(b, c, *s)`, a first guess, or `warm` from an earlier search's result."""
    cases = len(clean)
    lowest = torch.full((cases,), -torch.inf, dtype=torch.float64, device=clean.device)
    largest = radius * (1 if norm == "l1" else 2)
    voxels = clean[0].numel()
    moved = _voxels_moved(start, clean) if warm else torch.full_like(lowest, voxels)
    share = moved / voxels / _SPARSE_SHRINK if warm else torch.full_like(lowest, _SPARSE_START)
    none = torch.zeros_like(clean)
    return Climb(
        start, start, none, clean, none, lowest, largest, largest, -lowest,
        torch.zeros_like(lowest), lowest, torch.ones_like(lowest, dtype=torch.bool), share, moved,
    )  # fmt: skip


def rows_of(climb: Climb, rows: Tensor) -> Climb:
    """Return the search of the cases at `rows` alone."""
    return Climb(*(getattr(climb, field.name)[rows] for field in fields(climb)))


def note(climb: Climb, loss: Tensor, gradient: Tensor) -> None:
    """Write down what the objective and its gradient are at the iterate."""
    loss = loss.to(climb.highest)
    higher = loss > climb.highest
    wide = per_case(higher, gradient)
    climb.gradient = gradient
    climb.best = climb.image.where(wide, climb.best)
    climb.best_gradient = gradient.where(wide, climb.best_gradient)
    climb.highest = loss.where(higher, climb.highest)
    climb.rises = climb.rises + (loss > climb.last)
    climb.last = loss


def move(climb: Climb, ball: Ball, pull: Pull, *, first: bool) -> None:
    """Take a step, back into the ball; under linf and l2 with momentum after the first."""
    image = climb.image
    if ball.norm == "l1":
        pinned = _pinned(image, climb.gradient, ball.bounds)
        step = _sparse(climb.gradient.where(~pinned, 0), climb.share)
        climb.image = pull(image + climb.size * step)
        return
    ahead = pull(image + climb.size * steepest(climb.gradient, ball.norm))
    if not first:
        drift = image - climb.before
        ahead = pull(image + _MOMENTUM * (ahead - image) + (1 - _MOMENTUM) * drift)
    climb.image, climb.before = ahead, image


def windows(steps: int, norm: Norm) -> dict[int, int]:
    """Steps after which the step sizes are looked at, and how many steps each look covers."""
    if norm == "l1":
        window = max(int(0.04 * steps), 1)
        return dict.fromkeys(range(window, steps + 1, window), window)
    window, found, at = max(int(0.22 * steps), 1), {}, 0
    while at + window <= steps:
        at += window
        found[at] = window
        window = max(window - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    return found


def check(climb: Climb, window: int) -> None:
    """Halve the step where it stalls, and go on there from the best image: linf and l2."""
    few = climb.rises <= _RISES * window
    stuck = ~climb.shrunk & (climb.checked >= climb.highest)
    halve = few | stuck
    climb.size = torch.where(per_case(halve, climb.size), climb.size / 2, climb.size)
    _return(climb, halve)
    climb.shrunk, climb.checked = halve, climb.highest
    climb.rises = torch.zeros_like(climb.rises)


def check_sparse(climb: Climb, clean: Tensor, bounds: Bounds) -> None:
    """Fit the number of voxels a step moves to the best image, and the step's length: l1."""
    moved = _voxels_moved(climb.best, clean)
    pinned = _pinned(climb.best, climb.best_gradient, bounds)
    loose = _voxels_moved(climb.best.where(~pinned, clean), clean)
    sparser = moved < 0.95 * climb.moved
    smaller = (climb.size / _SPARSE_SHRINK).maximum(climb.largest / 10)
    climb.size = torch.where(per_case(sparser, climb.size), climb.largest, smaller)
    climb.share = loose / clean[0].numel() / _SPARSE_SHRINK
    climb.moved = moved
    _return(climb, sparser)


def _return(climb: Climb, rows: Tensor) -> None:
    wide = per_case(rows, climb.image)
    climb.image = climb.best.where(wide, climb.image)
    climb.gradient = climb.best_gradient.where(wide, climb.gradient)


def _sparse(gradient: Tensor, share: Tensor) -> Tensor:
    """Equal steps, of length 1 in l1 together, in the voxels of the steepest slopes."""
    flat = gradient.flatten(start_dim=1)
    count = (share * flat.shape[1]).long().clamp(1, flat.shape[1])
    slopes = flat.abs()
    least = slopes.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    signs = flat.sign().where(slopes >= least, 0)
    return (signs / signs.abs().sum(dim=1, keepdim=True).clamp(min=1)).view_as(gradient)


def _pinned(image: Tensor, gradient: Tensor, bounds: Bounds) -> Tensor:
    """Voxels that the gradient would push out of the bounds they are at."""
    low, high = bounds
    return ((image <= low) & (gradient < 0)) | ((image >= high) & (gradient > 0))


def _voxels_moved(image: Tensor, clean: Tensor) -> Tensor:
    return (image != clean).flatten(start_dim=1).sum(dim=1).double()

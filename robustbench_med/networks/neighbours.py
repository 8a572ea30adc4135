"""Stacks of slices seen slice by slice, each with the slices and pixels beside it."""

import torch
from torch import Tensor


def with_neighbours(image: Tensor) -> Tensor:
    """Each slice with the one before and after: `(b, c, z, y, x)` to `(b, z c 3, y, x)`."""
    stack, last = image.transpose(1, 2), image.shape[2] - 1
    before = torch.cat([stack[:, :1], stack[:, :last]], dim=1)
    after = torch.cat([stack[:, 1:], stack[:, last : last + 1]], dim=1)
    return torch.stack([before, stack, after], dim=3).flatten(1, 3)


def edges_repeated(maps: Tensor) -> Tensor:
    """One more row and column at each side, equal to the outermost."""
    # auto-LiRPA misreads indices that count from the end.
    low, right = maps.shape[2] - 1, maps.shape[3] - 1
    rows = torch.cat([maps[:, :, :1], maps, maps[:, :, low : low + 1]], dim=2)
    return torch.cat([rows[..., :1], rows, rows[..., right : right + 1]], dim=3)

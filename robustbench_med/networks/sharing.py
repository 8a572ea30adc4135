"""Data sharing: k-space that a frame lacks, filled from the frames around it."""

from collections.abc import Sequence

from torch import Tensor

FRAMES = -3


def fill_measured(kspace: Tensor, mask: Tensor, distances: Sequence[int]) -> list[Tensor]:
    """Fill what each frame lacks with the mean of what its neighbours measured there.

    The mean goes over those neighbours that measured the place; where none did, it stays 0. Lines
    of the frame's own stay as they are. Frames go round: the last one's neighbour is the first.

    Args:
        kspace: Measured k-space, `(b, c, t, h, w)`, 0 where not measured.
        mask: `(b, 1, t, h, w)`, 1 where measured.
        distances: How far neighbours may be, in frames; one answer for each.

    Returns:
        For each distance n, k-space with the lines of frames t - n to t + n, of the same shape.

    Source: Schlemper et al., IEEE TMI 37 (2018), section III, arXiv:1704.02422.
    """
    sums, counts = window_sums(kspace, distances), window_sums(mask, distances)
    return [
        kspace * mask + (1 - mask) * total / count.clamp(min=1)
        for total, count in zip(sums, counts, strict=True)
    ]


def fill_estimated(kspace: Tensor, mask: Tensor, distances: Sequence[int]) -> list[Tensor]:
    """Fill what each frame did not measure with the mean over its window, as `fill_measured`.

    For k-space of an estimate, which is nowhere empty: the mean goes over all 2 n + 1 frames.
    """
    return [
        kspace * mask + (1 - mask) * total / (2 * distance + 1)
        for total, distance in zip(window_sums(kspace, distances), distances, strict=True)
    ]


def window_sums(values: Tensor, distances: Sequence[int]) -> list[Tensor]:
    """Sums over frames t - n to t + n, circular, for each distance n.

    Where a window is longer than the series, frames that it holds twice count twice.
    """
    sums = [values]
    for distance in range(1, max(distances, default=0) + 1):
        around = values.roll(distance, FRAMES) + values.roll(-distance, FRAMES)
        sums.append(sums[-1] + around)
    return [sums[distance] for distance in distances]

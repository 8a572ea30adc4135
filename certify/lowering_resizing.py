"""Enlarging and shuffling of pixels, written as nodes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from robustbench_med.certify.lowering_layers import convolution
from robustbench_med.certify.lowering_nodes import Value, Writer


def nearest(writer: Writer, x: Value, sizes: Sequence[int], *scales: float | None) -> Value:
    """aten::upsample_nearest of 1 to 3 axes; by whole factors it stays local."""
    return _nearest(writer, x, sizes, scales, torch.ops.aten.upsample_nearest1d)


def nearest_exact(writer: Writer, x: Value, sizes: Sequence[int], *scales: float | None) -> Value:
    """aten::_upsample_nearest_exact of 1 to 3 axes."""
    return _nearest(writer, x, sizes, scales, torch.ops.aten._upsample_nearest_exact1d)


def _nearest(
    writer: Writer,
    x: Value,
    sizes: Sequence[int],
    scales: Sequence[float | None],
    one: torch._ops.OpOverloadPacket,
) -> Value:
    picked = []
    for n, m, scale in zip(x.shape[2:], sizes, scales, strict=True):
        counted = torch.arange(n, dtype=torch.float64)[None, None]
        picked.append(one(counted, [m], scale)[0, 0].long().numpy())
    factors = [max(m // n, 1) for n, m in zip(x.shape[2:], sizes, strict=True)]
    whole = all(
        np.array_equal(index, np.repeat(np.arange(n), factor))
        for index, n, factor in zip(picked, x.shape[2:], factors, strict=True)
    )
    if whole:
        weight = torch.ones(x.shape[1], 1, *factors, dtype=torch.float64)
        zero, ones, c = [0] * len(factors), [1] * len(factors), x.shape[1]
        return convolution(writer, x, weight, None, factors, zero, ones, True, zero, c)  # noqa: FBT003
    for axis, index in enumerate(picked):
        x = writer.take(x, axis + 2, index)
    return x


def linear(
    writer: Writer,
    x: Value,
    sizes: Sequence[int],
    align: bool,  # noqa: FBT001
    *scales: float | None,
) -> Value:
    """aten::upsample_linear1d, bilinear2d and trilinear3d: one matrix an axis."""

    def one(each: torch.Tensor, m: int, scale: float | None) -> torch.Tensor:
        shares: torch.Tensor = torch.ops.aten.upsample_linear1d(each[None], [m], align, scale)
        return shares[0]

    return _by_axis(writer, x, sizes, scales, one)


def cubic(
    writer: Writer,
    x: Value,
    sizes: Sequence[int],
    align: bool,  # noqa: FBT001
    *scales: float | None,
) -> Value:
    """aten::upsample_bicubic2d: one matrix an axis."""

    def one(each: torch.Tensor, m: int, scale: float | None) -> torch.Tensor:
        lines, found = each[None, :, None], torch.ops.aten.upsample_bicubic2d
        shares: torch.Tensor = found(lines, [1, m], align, None, scale)
        return shares[0, :, 0]

    return _by_axis(writer, x, sizes, scales, one)


def _by_axis(
    writer: Writer,
    x: Value,
    sizes: Sequence[int],
    scales: Sequence[float | None],
    one: Callable[[torch.Tensor, int, float | None], torch.Tensor],
) -> Value:
    """Resize axis after axis by the matrix `(n, m)` that `one` makes of unit vectors."""
    for axis, (m, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        unit = torch.eye(x.shape[axis], dtype=torch.float64)
        x = writer.along(x, axis, one(unit, m, scale).T.numpy())
    return x


def pixel_shuffle(writer: Writer, x: Value, factor: int) -> Value:
    """aten::pixel_shuffle as a transposed convolution, one group a channel of the result."""
    channels = x.shape[1] // factor**2
    weight = _corners(factor, channels)
    square, zero, one = [factor] * 2, [0, 0], [1, 1]
    return convolution(writer, x, weight, None, square, zero, one, True, zero, channels)  # noqa: FBT003


def pixel_unshuffle(writer: Writer, x: Value, factor: int) -> Value:
    """aten::pixel_unshuffle as a convolution, one group a channel."""
    weight = _corners(factor, x.shape[1])
    square, zero, one = [factor] * 2, [0, 0], [1, 1]
    return convolution(writer, x, weight, None, square, zero, one, False, zero, x.shape[1])  # noqa: FBT003


def _corners(factor: int, channels: int) -> torch.Tensor:
    each = torch.eye(factor**2, dtype=torch.float64).reshape(-1, 1, factor, factor)
    return each.repeat(channels, 1, 1, 1)

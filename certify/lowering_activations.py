"""Activations that are exact with ReLU, written as nodes."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from robustbench_med.certify.lowering_layers import constant
from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.errors import UnsupportedError


def leaky_relu(writer: Writer, x: Value, slope: ArrayLike | Tensor) -> Value:
    """Add x times the slope and what a ReLU adds, so that each unit needs one ReLU."""
    below = constant(slope, "prelu")
    return writer.add(writer.scale(x, below), writer.scale(writer.relu(x), 1 - below))


def prelu(writer: Writer, x: Value, slope: Tensor) -> Value:
    """aten::prelu: slopes by channel."""
    axes = (-1, *(1,) * (len(x.shape) - 2)) if slope.numel() > 1 else ()
    return leaky_relu(writer, x, slope.reshape(axes))


def absolute(writer: Writer, x: Value) -> Value:
    """|x| = x + 2 relu(-x)."""
    return writer.add(x, writer.scale(writer.relu(writer.scale(x, -1.0)), 2.0))


def maximum(writer: Writer, x: object, y: object) -> Value:
    """max(x, y) = y + relu(x - y)."""
    if not isinstance(y, Value):
        x, y = y, x
    assert isinstance(y, Value)  # noqa: S101 (one of them is)
    if not isinstance(x, Value):
        least = constant(x, "maximum")
        return writer.scale(writer.relu(writer.scale(y, 1.0, -least)), 1.0, least)
    return writer.add(y, writer.relu(writer.add(x, writer.scale(y, -1.0))))


def minimum(writer: Writer, x: object, y: object) -> Value:
    """min(x, y) = y - relu(y - x)."""
    if not isinstance(y, Value):
        x, y = y, x
    assert isinstance(y, Value)  # noqa: S101 (one of them is)
    if not isinstance(x, Value):
        most = constant(x, "minimum")
        return writer.scale(writer.relu(writer.scale(y, -1.0, most)), -1.0, most)
    over = writer.relu(writer.add(y, writer.scale(x, -1.0)))
    return writer.add(y, writer.scale(over, -1.0))


def clamp(writer: Writer, x: Value, low: object = None, high: object = None) -> Value:
    """The larger of x and low, then the smaller of that and high, as torch does it.

    One ReLU within the other: intervals through them stay between the limits.
    """
    if low is not None and not _infinite(low):
        x = maximum(writer, low, x)
    if high is not None and not _infinite(high):
        x = minimum(writer, high, x)
    return x


def _infinite(limit: object) -> bool:
    return isinstance(limit, (int, float)) and bool(np.isinf(limit))


def clamp_max(writer: Writer, x: Value, high: object) -> Value:
    """aten::clamp_max."""
    return clamp(writer, x, None, high)


def hardsigmoid(writer: Writer, x: Value) -> Value:
    """aten::hardsigmoid."""
    return clamp(writer, writer.scale(x, 1 / 6, 0.5), 0.0, 1.0)


def threshold(writer: Writer, x: Value, at: float, below: float) -> Value:
    """aten::threshold, where it is a ReLU."""
    if at != 0 or below != 0:
        raise UnsupportedError(
            "certify: unsupported operator threshold other than at 0 with value 0; use ReLU"
        )
    return writer.relu(x)

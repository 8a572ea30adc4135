"""Convolutions, products with matrices and batch norm, written as nodes."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from robustbench_med.certify.lowering_nodes import Value, Writer, exact
from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs.network import Floats

Layout = tuple[Sequence[int], Sequence[int], Sequence[int]]


def constant(given: object, what: str) -> Floats:
    """Read a weight.

    Raises:
        UnsupportedError: If it changes with the image.
    """
    if isinstance(given, Value):
        raise UnsupportedError(
            f"certify: unsupported operator {what} of two values that change with the image"
        )
    return exact(given.numpy(force=True) if isinstance(given, Tensor) else given)  # type: ignore[arg-type]


def convolution(  # noqa: PLR0913, PLR0917 (aten's own)
    writer: Writer,
    x: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,  # noqa: FBT001
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """aten::convolution; cases beyond one are taken as one more axis, which it leaves alone."""
    if not isinstance(x, Value):
        raise UnsupportedError("certify: unsupported operator convolution with a moving kernel")
    kernel = constant(weight, "convolution")
    axes = kernel.ndim - 2
    settings = {
        "stride": _each(stride, axes), "padding": _each(padding, axes),
        "dilation": _each(dilation, axes), "groups": [groups],
    }  # fmt: skip
    channels = kernel.shape[1] * groups if transposed else kernel.shape[0]
    added = np.zeros(channels) if bias is None else constant(bias, "convolution")
    if transposed:
        settings["output_padding"] = _each(output_padding, axes)
    if x.shape[0] == 1:
        return _convolved(writer, x, kernel, added, settings)
    swap = [1, 0, *range(2, len(x.shape))]
    neutral = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    settings = {
        name: [neutral[name], *numbers] if name in neutral else numbers
        for name, numbers in settings.items()
    }
    moved = writer.permute(x, swap)
    moved = writer.reshape(moved, (1, *moved.shape))
    moved = _convolved(writer, moved, kernel[:, :, None], added, settings)
    return writer.permute(writer.reshape(moved, moved.shape[1:]), swap)


def _each(numbers: Sequence[int], axes: int) -> list[int]:
    return [int(n) for n in (numbers if len(numbers) == axes else list(numbers) * axes)]


def _convolved(
    writer: Writer, x: Value, kernel: Floats, bias: Floats, settings: dict[str, list[int]]
) -> Value:
    sizes = np.array(x.shape[2:])
    reach = np.array(settings["dilation"]) * (np.array(kernel.shape[2:]) - 1)
    stride, padding = np.array(settings["stride"]), np.array(settings["padding"])
    if "output_padding" in settings:
        more = np.array(settings["output_padding"])
        grid = (sizes - 1) * stride + reach + 1 - 2 * padding + more
    else:
        grid = (sizes + 2 * padding - reach - 1) // stride + 1
    seen = (len(bias), *(int(n) for n in grid))
    kind = "conv_transpose" if "output_padding" in settings else "conv"
    arrays = {"weight": kernel, "bias": bias}
    return writer.put(kind, (x.position,), seen, (1, *seen), arrays, **settings)  # type: ignore[arg-type]


def depthwise(writer: Writer, x: Value, kernel: Floats, layout: Layout) -> Value:
    """Convolve every channel of `(1, c, *s)` with the same kernel `(*k)`."""
    stride, padding, dilation = (list(numbers) for numbers in layout)
    channels = x.shape[1]
    weight = np.repeat(kernel[None, None], channels, axis=0)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": [channels]}
    return _convolved(writer, x, weight, np.zeros(channels), settings)


def addmm(
    writer: Writer, bias: Tensor, x: object, weight: object, beta: float, alpha: float
) -> Value:
    """aten::addmm: beta bias + alpha x @ weight."""
    product = mm(writer, x, weight)
    if isinstance(bias, Value):
        scaled = writer.scale(product, alpha), writer.scale(bias, beta)
        return writer.add(*scaled)
    return writer.scale(product, alpha, beta * constant(bias, "addmm"))


def mm(writer: Writer, x: object, weight: object) -> Value:
    """aten::mm, one of the two a constant."""
    if isinstance(x, Value):
        matrix = constant(weight, "matmul").T
        if x.shape[0] != 1:
            return writer.along(x, 1, matrix)
        arrays = {"weight": matrix.copy(), "bias": np.zeros(len(matrix))}
        shape = (1, len(matrix))
        return writer.put("dense", (x.position,), shape[1:], shape, arrays)
    assert isinstance(weight, Value)  # noqa: S101 (one of them is)
    return writer.along(weight, 0, constant(x, "matmul"))


def mv(writer: Writer, x: object, vector: object) -> Value:
    """aten::mv."""
    if isinstance(vector, Value):
        return writer.along(vector, 0, constant(x, "matmul"))
    assert isinstance(x, Value)  # noqa: S101 (one of them is)
    product = writer.along(x, 1, constant(vector, "matmul")[None])
    return writer.reshape(product, x.shape[:1])


def bmm(writer: Writer, x: object, weight: object) -> Value:
    """aten::bmm, one of the two a constant, the same for all."""
    moving, axis = (x, 2) if isinstance(x, Value) else (weight, 1)
    matrices = constant(weight if axis == 2 else x, "matmul")
    if not isinstance(moving, Value) or (matrices != matrices[:1]).any():
        raise UnsupportedError(
            "certify: unsupported operator matmul with several matrices at once; use a grouped "
            "convolution"
        )
    return writer.along(moving, axis, matrices[0].T if axis == 2 else matrices[0])


def batch_norm(  # noqa: PLR0913, PLR0917 (aten's own)
    writer: Writer,
    x: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,  # noqa: FBT001
    _momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    """aten::native_batch_norm by running statistics."""
    if training or mean is None or variance is None:
        raise UnsupportedError(
            "certify: unsupported operator instance_norm, or batch_norm by the statistics of the "
            "image; use batch norm with running statistics"
        )
    spread = np.sqrt(constant(variance, "batch_norm") + eps)
    factor = (1.0 if weight is None else constant(weight, "batch_norm")) / spread
    shift = -constant(mean, "batch_norm") * factor
    if bias is not None:
        shift = shift + constant(bias, "batch_norm")
    axes = (-1, *(1,) * (len(x.shape) - 2))
    return writer.scale(x, factor.reshape(axes), shift.reshape(axes)), None, None

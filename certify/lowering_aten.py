"""Which of torch's operators are written as which nodes, and what is refused by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from robustbench_med.certify import lowering_activations as activations
from robustbench_med.certify import lowering_layers as layers
from robustbench_med.certify import lowering_poolings as poolings
from robustbench_med.certify import lowering_resizing as resizing
from robustbench_med.certify import lowering_shapes as shapes
from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.errors import UnsupportedError

Rule = Callable[..., Any]
_ENGINE = "; hidden layers of it are bounded by auto-LiRPA alone, engine only"
_BATCH = "; use batch norm"
_RELU = "; use ReLU or LeakyReLU"
_FOURIER = " (torch.fft); write it for fixed lines as a real matrix, as networks.FixedCascade does"
_DECISIONS = ("gt", "lt", "ge", "le", "eq", "ne", "where", "sign", "argmax", "nonzero")
# What torch's users call an operator, and what to use instead.
_ADVICE = {
    "native_group_norm": f"group_norm (GroupNorm){_BATCH}",
    "native_layer_norm": f"layer_norm (LayerNorm){_BATCH}",
    "_softmax": "softmax other than as the last operation, over the classes",
    "_log_softmax": "log_softmax other than as the last operation, over the classes",
    "sigmoid": f"sigmoid other than as the last operation{_ENGINE}",
    "gelu": f"gelu{_ENGINE}",
    "elu": f"elu{_ENGINE}",
    "celu": f"celu{_ENGINE}",
    "silu": f"silu{_ENGINE}",
    "mish": f"mish{_ENGINE}",
    "softplus": f"softplus{_ENGINE}",
    "tanh": f"tanh{_ENGINE}",
    "hardswish": f"hardswish{_RELU}",
    "log_sigmoid_forward": "logsigmoid",
    "pow": f"pow{_RELU}",
    "adaptive_max_pool2d": "adaptive_max_pool2d; use max_pool2d",
    "_fft_c2c": f"fft{_FOURIER}",
    "_fft_r2c": f"rfft{_FOURIER}",
    "_fft_c2r": f"irfft{_FOURIER}",
    "view_as_complex": f"view_as_complex{_FOURIER}",
    "complex": f"complex{_FOURIER}",
    "empty_like": "dropout that is active in evaluation; use nn.Dropout",
    "bernoulli": "dropout that is active in evaluation; use nn.Dropout",
    "new_empty": "new_empty (circular padding, or assigning to parts of a tensor); use torch.cat",
    **{name: f"{name} (a decision by values of the image){_RELU}" for name in _DECISIONS},
    "im2col": "unfold; use a convolution",
    "copy": "copy_ (assigning to a part of a tensor); use torch.cat",
}


def translated(writer: Writer, operator: torch._ops.OpOverload, given: list[Any]) -> Any:  # noqa: ANN401
    """Write one operator down.

    Args:
        writer: What has its inputs.
        operator: Of torch's ATen.
        given: All its arguments in the order of its schema; values that change are `Value`s.

    Returns:
        Its `Value`, several of them, or a constant that only a shape decides.

    Raises:
        UnsupportedError: Naming the operator as torch's users know it.
    """
    name = operator._schema.name.removeprefix("aten::")
    name = name if name.endswith("__") else name.removesuffix("_")
    if name not in RULES:
        raise UnsupportedError(f"certify: unsupported operator {_ADVICE.get(name, name)}")
    return RULES[name](writer, *given)


def _same(_writer: Writer, x: Value, *_how: object) -> Value:
    return x


def _copied(_writer: Writer, x: Value, dtype: torch.dtype | None, *_how: object) -> Value:
    if dtype is not None and dtype.is_complex:
        raise UnsupportedError(f"certify: unsupported operator of complex numbers{_FOURIER}")
    if dtype not in (None, torch.float64):
        raise UnsupportedError(
            f"certify: unsupported operator to({dtype}): a network must compute in one type"
        )
    return x


def _shaped(fill: float | None) -> Rule:
    def rule(_writer: Writer, x: Value, *arguments: Any) -> torch.Tensor:  # noqa: ANN401
        return torch.full(x.shape, arguments[0] if fill is None else fill, dtype=torch.float64)

    return rule


def _cat(writer: Writer, values: list[Any], axis: int) -> Value:
    moving = [x for x in values if not (isinstance(x, torch.Tensor) and x.numel() == 0)]
    return writer.concat([_moving(writer, x) for x in moving], axis)


def _stack(writer: Writer, values: list[Any], axis: int) -> Value:
    return shapes.stack(writer, [_moving(writer, x) for x in values], axis)


def _moving(writer: Writer, x: Value | torch.Tensor) -> Value:
    """Let a constant stand among values: 0 times the image, plus the constant."""
    if isinstance(x, Value):
        return x
    flat = writer.along(writer.reshape(writer.start, (1, -1)), 1, _nothing(writer))
    spread = writer.broadcast(writer.reshape(flat, [1] * x.ndim), x.shape)
    return writer.scale(spread, 1.0, layers.constant(x, "cat"))


def _nothing(writer: Writer) -> Any:  # noqa: ANN401
    return torch.zeros(1, torch.Size(writer.start.shape).numel(), dtype=torch.float64).numpy()


def _add(writer: Writer, x: Any, y: Any, alpha: float = 1) -> Value:  # noqa: ANN401
    if isinstance(x, Value) and isinstance(y, Value):
        return writer.add(x, y if alpha == 1 else writer.scale(y, alpha))
    if isinstance(x, Value):
        return writer.scale(x, 1.0, alpha * layers.constant(y, "add"))
    return writer.scale(y, alpha, layers.constant(x, "add"))


def _subtract(writer: Writer, x: Any, y: Any, alpha: float = 1) -> Value:  # noqa: ANN401
    return _add(writer, x, y, -alpha)


def _subtracted(writer: Writer, x: Any, y: Any, alpha: float = 1) -> Value:  # noqa: ANN401
    return _add(writer, y, x, -alpha)


def _multiply(writer: Writer, x: Any, y: Any) -> Value:  # noqa: ANN401
    if not isinstance(x, Value):
        x, y = y, x
    return writer.scale(x, layers.constant(y, "mul"))


def _divide(writer: Writer, x: Any, y: Any, rounding: str | None = None) -> Value:  # noqa: ANN401
    if rounding is not None:
        raise UnsupportedError("certify: unsupported operator div with rounding_mode")
    divisor = layers.constant(y, "div")
    if (divisor == 0).any() or not isinstance(x, Value):
        raise UnsupportedError("certify: unsupported operator div by 0 or by a moving value")
    return writer.scale(x, 1 / divisor)


def _expand(writer: Writer, x: Value, shape: list[int], *_how: object) -> Value:
    return writer.broadcast(x, shape)


def _negate(writer: Writer, x: Value) -> Value:
    return writer.scale(x, -1.0)


_NAMED: dict[Rule, str] = {
    _same: "alias clone contiguous detach lift_fresh lift_fresh_copy positive",
    _copied: "_to_copy",
    _shaped(0.0): "zeros_like new_zeros",
    _shaped(1.0): "ones_like new_ones",
    _shaped(None): "full_like",
    _add: "add",
    _subtract: "sub",
    _subtracted: "rsub",
    _multiply: "mul",
    _divide: "div",
    _negate: "neg",
    _cat: "cat",
    _stack: "stack",
    layers.convolution: "convolution",
    layers.addmm: "addmm",
    layers.mm: "mm",
    layers.mv: "mv",
    layers.bmm: "bmm",
    layers.batch_norm: "native_batch_norm",
    Writer.reshape: "view _unsafe_view reshape",
    Writer.permute: "permute",
    _expand: "expand",
    Writer.relu: "relu",
    shapes.unsqueeze: "unsqueeze",
    shapes.squeeze: "squeeze",
    shapes.flatten: "flatten",
    shapes.transpose: "transpose t",
    shapes.slice_: "slice",
    shapes.select: "select",
    shapes.split: "split split_with_sizes",
    shapes.chunk: "chunk",
    shapes.unbind: "unbind",
    shapes.narrow: "narrow",
    shapes.index: "index",
    shapes.index_select: "index_select",
    shapes.flip: "flip",
    shapes.roll: "roll",
    shapes.repeat: "repeat",
    shapes.constant_pad: "constant_pad_nd",
    shapes.edge_pad: "replication_pad1d replication_pad2d replication_pad3d",
    shapes.mirror_pad: "reflection_pad1d reflection_pad2d reflection_pad3d",
    poolings.mean: "mean",
    poolings.total: "sum",
    poolings.average_pool: "avg_pool2d avg_pool3d",
    poolings.adaptive_average_pool: "_adaptive_avg_pool2d _adaptive_avg_pool3d",
    poolings.max_pool: "max_pool2d_with_indices max_pool3d_with_indices",
    resizing.nearest: "upsample_nearest1d upsample_nearest2d upsample_nearest3d",
    resizing.nearest_exact: "_upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d",
    resizing.linear: "upsample_linear1d upsample_bilinear2d upsample_trilinear3d",
    resizing.cubic: "upsample_bicubic2d",
    resizing.pixel_shuffle: "pixel_shuffle",
    resizing.pixel_unshuffle: "pixel_unshuffle",
    activations.leaky_relu: "leaky_relu _prelu_kernel",
    activations.prelu: "prelu",
    activations.absolute: "abs",
    activations.maximum: "maximum clamp_min",
    activations.minimum: "minimum clamp_max",
    activations.clamp: "clamp hardtanh",
    activations.hardsigmoid: "hardsigmoid",
    activations.threshold: "threshold",
}
RULES: Mapping[str, Rule] = MappingProxyType(
    {name: rule for rule, names in _NAMED.items() for name in names.split()}
)

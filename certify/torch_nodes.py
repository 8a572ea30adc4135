"""The affine nodes of a written-out network in torch, each with its transpose, for a batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.proofs.network import Kind, Network, Node, size


@dataclass(frozen=True)
class Operation:
    """A node of a network with its arrays as tensors.

    Attributes:
        node: What it is.
        sources: Shapes of its inputs' values.
        arrays: By name, as in `Node`.
    """

    node: Node
    sources: tuple[tuple[int, ...], ...]
    arrays: Mapping[str, Tensor]


def operations(network: Network, like: Tensor) -> tuple[Operation, ...]:
    """Put a network's arrays into the data type and on the device of `like`."""
    return tuple(
        Operation(
            node,
            tuple(network.nodes[i].shape for i in node.inputs),
            {
                # A copy in order: torch takes no array that runs backwards, as flips write them.
                name: torch.as_tensor(np.array(array, order="C")).to(
                    like.device, torch.int64 if name == "index" else like.dtype
                )
                for name, array in node.arrays.items()
            },
        )
        for node in network.nodes
    )


def absolute(operation: Operation) -> Operation:
    """The same with every factor's absolute value: it maps radii of intervals to radii."""
    factors = {
        name: array.abs() if name in ("weight", "factor") else array
        for name, array in operation.arrays.items()
    }
    return replace(operation, arrays=factors)


def linear(operation: Operation, values: Sequence[Tensor]) -> Tensor:
    """Apply an affine node without what it adds; values `(b, *source)`, result `(b, *shape)`."""
    return _LINEAR[operation.node.kind][0](operation, values)


def transposed(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    """Carry coefficients `(b, *shape)` of a node's value back to its inputs, `(b, *source)` each.

    The sum of coefficient times `linear(values)` is the sum of the results times `values`.
    """
    return _LINEAR[operation.node.kind][1](operation, coefficient)


def added(operation: Operation) -> Tensor | None:
    """What a node adds to every value, broadcastable to its shape; None for nothing."""
    if operation.node.kind == "scale":
        return operation.arrays["shift"]
    bias = operation.arrays.get("bias")
    if bias is None or operation.node.kind == "dense":
        return bias
    return bias.reshape(-1, *[1] * (len(operation.node.shape) - 1))


def values(parts: Sequence[Operation], image: Tensor) -> list[Tensor]:
    """Compute every node's value for a batch of inputs `(b, *input)`."""
    found: list[Tensor] = []
    for part in parts:
        inputs = [found[i] for i in part.node.inputs]
        if part.node.kind == "input":
            found.append(image.reshape(-1, *part.node.shape))
        elif part.node.kind == "relu":
            found.append(inputs[0].relu())
        else:
            shift, value = added(part), linear(part, inputs)
            found.append(value if shift is None else value + shift)
    return found


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _down(operation: Operation, value: Tensor) -> Tensor:
    node = operation.node.settings
    return _CONV[value.ndim - 2](
        value,
        operation.arrays["weight"],
        stride=node["stride"],
        padding=node["padding"],
        dilation=node["dilation"],
        groups=node["groups"][0],
    )


def _up(operation: Operation, value: Tensor, shape: Sequence[int]) -> Tensor:
    """Transpose of `_down` from inputs whose axes after the channels are `shape`."""
    node = operation.node.settings
    kernel = operation.arrays["weight"].shape[2:]
    rest = [
        total - ((short - 1) * stride - 2 * padding + dilation * (k - 1) + 1)
        for total, short, stride, padding, dilation, k in zip(
            shape, value.shape[2:], node["stride"], node["padding"], node["dilation"], kernel,
            strict=True,
        )
    ]  # fmt: skip
    return _CONV_TRANSPOSE[value.ndim - 2](
        value,
        operation.arrays["weight"],
        stride=node["stride"],
        padding=node["padding"],
        output_padding=rest,
        groups=node["groups"][0],
        dilation=node["dilation"],
    )


def _conv_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    return [_up(operation, coefficient, operation.sources[0][1:])]


def _conv_transpose(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return _up(operation, inputs[0], operation.node.shape[1:])


def _conv_transpose_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    found = _down(operation, coefficient)
    # An output padding of a whole stride, legal under dilation, gives one position too many.
    for axis, length in enumerate(operation.sources[0]):
        found = found.narrow(axis + 1, 0, length)
    return [found]


def _dense(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] @ operation.arrays["weight"].T


def _dense_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    return [coefficient @ operation.arrays["weight"]]


def _axis(operation: Operation) -> int:
    return operation.node.settings["axis"][0] + 1


def _along(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    axis = _axis(operation)
    return (inputs[0].movedim(axis, -1) @ operation.arrays["weight"].T).movedim(-1, axis)


def _along_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    axis = _axis(operation)
    return [(coefficient.movedim(axis, -1) @ operation.arrays["weight"]).movedim(-1, axis)]


def _scale(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] * operation.arrays["factor"]


def _scale_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    return [coefficient * operation.arrays["factor"]]


def _sum(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:  # noqa: ARG001
    total = inputs[0]
    for other in inputs[1:]:
        total = total + other
    return total


def _sum_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    return [coefficient] * len(operation.sources)


def _concat(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(inputs), dim=_axis(operation))


def _concat_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    axis = _axis(operation)
    return torch.split(coefficient, [shape[axis - 1] for shape in operation.sources], dim=axis)


def _reshape(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].reshape(-1, *operation.node.shape)


def _reshape_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    return [coefficient.reshape(-1, *operation.sources[0])]


def _permute(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].permute(0, *(axis + 1 for axis in operation.node.settings["axes"]))


def _permute_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    axes = operation.node.settings["axes"]
    back = sorted(range(len(axes)), key=lambda axis: axes[axis])
    return [coefficient.permute(0, *(axis + 1 for axis in back))]


def _take(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].index_select(_axis(operation), operation.arrays["index"])


def _take_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    empty = coefficient.new_zeros(len(coefficient), *operation.sources[0])
    return [empty.index_add(_axis(operation), operation.arrays["index"], coefficient)]


def _pad(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    node = operation.node.settings
    pairs = [(node["before"][i], node["after"][i]) for i in reversed(range(len(node["before"])))]
    return F.pad(inputs[0], [width for pair in pairs for width in pair])


def _pad_back(operation: Operation, coefficient: Tensor) -> Sequence[Tensor]:
    for axis, (start, length) in enumerate(
        zip(operation.node.settings["before"], operation.sources[0], strict=True)
    ):
        coefficient = coefficient.narrow(axis + 1, start, length)
    return [coefficient]


def _conv(operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
    return _down(operation, inputs[0])


_LINEAR: Mapping[
    Kind,
    tuple[
        Callable[[Operation, Sequence[Tensor]], Tensor],
        Callable[[Operation, Tensor], Sequence[Tensor]],
    ],
] = {
    "conv": (_conv, _conv_back),
    "conv_transpose": (_conv_transpose, _conv_transpose_back),
    "dense": (_dense, _dense_back),
    "along": (_along, _along_back),
    "scale": (_scale, _scale_back),
    "sum": (_sum, _sum_back),
    "concat": (_concat, _concat_back),
    "reshape": (_reshape, _reshape_back),
    "permute": (_permute, _permute_back),
    "take": (_take, _take_back),
    "pad": (_pad, _pad_back),
}


def widest(parts: Sequence[Operation]) -> int:
    """Elements of the largest value, which decides how many rows fit in memory."""
    return max(size(part.node.shape) for part in parts)

"""A written-out network in fewer kinds of node still: those that auto-LiRPA bounds correctly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.proofs.network import Floats, Kind, Network, Node, size

# Beyond it, a volume's convolution is left as it is, which auto-LiRPA refuses: 1 GiB.
LARGEST_KERNEL = 2**27
_Rule = Callable[[Writer, Node, Value], Value]


def plain(network: Network) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    """Write a network with two-dimensional convolutions, dense layers, views and slices only.

    auto-LiRPA 0.3 wants transposed convolutions with square kernels, without padding, output
    padding, groups, dilation or strides that differ, and convolutions without dilations that
    differ; it slices without steps, and has no padding of its own.

    Returns:
        Nodes, and at which of them each node of `network` has its value.
    """
    writer = Writer((1, *network.nodes[0].shape))
    found = [writer.start]
    for node in network.nodes[1:]:
        inputs = [found[i] for i in node.inputs]
        rule = _RULES.get(node.kind)
        if rule is not None:
            found.append(rule(writer, node, inputs[0]))
        else:
            moved = replace(node, inputs=tuple(x.position for x in inputs))
            writer.nodes.append(moved)
            found.append(Value(len(writer.nodes) - 1, (1, *node.shape)))
    return tuple(writer.nodes), tuple(x.position for x in found)


def _along(writer: Writer, node: Node, x: Value) -> Value:
    return _multiplied(writer, x, node.settings["axis"][0] + 1, node.arrays["weight"])


def _multiplied(writer: Writer, x: Value, axis: int, matrix: Floats) -> Value:
    """A product along one axis as a convolution of kernel 1 with that axis for channels."""
    order = [0, axis, *(i for i in range(1, len(x.shape)) if i != axis)]
    first = writer.permute(x, order)
    flat = writer.reshape(first, (1, len(matrix[0]), 1, -1))
    arrays = {"weight": matrix[:, :, None, None], "bias": np.zeros(len(matrix))}
    done = _layer(writer, "conv", flat, arrays, (len(matrix), *flat.shape[2:]))
    back = writer.reshape(done, (1, len(matrix), *first.shape[2:]))
    return writer.permute(back, [order.index(i) for i in range(len(order))])


def _take(writer: Writer, node: Node, x: Value) -> Value:
    return _picked(writer, x, node.settings["axis"][0] + 1, node.arrays["index"])


def _picked(writer: Writer, x: Value, axis: int, index: NDArray[np.int64]) -> Value:
    if (np.diff(index) == 1).all():
        return writer.take(x, axis, index)
    return _multiplied(writer, x, axis, np.eye(x.shape[axis])[index])


def _pad(writer: Writer, node: Node, x: Value) -> Value:
    pairs = zip(node.settings["before"], node.settings["after"], strict=True)
    for axis, (low, high) in enumerate(pairs, start=1):
        if low or high:
            around = np.pad(np.eye(x.shape[axis]), ((low, high), (0, 0)))
            x = _multiplied(writer, x, axis, around)
    return x


def _conv(writer: Writer, node: Node, x: Value) -> Value:
    outer = node.shape
    node, shape = _in_the_plane(node, x.shape[1:])
    if len(set(node.settings["dilation"])) > 1:
        node = _spread(node)
    done = _layer(
        writer, "conv", writer.reshape(x, (1, *shape)), node.arrays, node.shape, **node.settings
    )
    return writer.reshape(done, (1, *outer))


def _conv_transpose(writer: Writer, node: Node, x: Value) -> Value:
    outer = node.shape
    node, shape = _in_the_plane(_spread(_ungrouped(node)), x.shape[1:])
    x = writer.reshape(x, (1, *shape))
    stride = node.settings["stride"]
    if len(set(stride)) > 1:
        for axis, (n, step) in enumerate(zip(shape[1:], stride, strict=True), start=2):
            apart = np.zeros(((n - 1) * step + 1, n))
            apart[::step] = np.eye(n)
            x = _multiplied(writer, x, axis, apart) if step > 1 else x
        stride = (1,) * len(stride)
    weight = node.arrays["weight"]
    reach = [k + n for k, n in zip(weight.shape[2:], node.settings["output_padding"], strict=True)]
    # Square, with zeros at the ends; what they add is cut off again.
    ends = [(0, max(reach) - k) for k in weight.shape[2:]]
    weight = np.pad(weight, [(0, 0), (0, 0), *ends])
    whole = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, weight.shape[2:], strict=True)]
    arrays = {"weight": weight, "bias": node.arrays["bias"]}
    seen = (node.shape[0], *whole)
    done = _layer(writer, "conv_transpose", x, arrays, seen, stride=stride)
    sides = zip(node.settings["padding"], node.shape[1:], strict=True)
    for axis, (low, n) in enumerate(sides, start=2):
        done = writer.take(done, axis, np.arange(low, low + n))
    return writer.reshape(done, (1, *outer))


def _layer(
    writer: Writer,
    kind: Kind,
    x: Value,
    arrays: Mapping[str, Floats],
    shape: tuple[int, ...],
    **settings: Sequence[int],
) -> Value:
    axes = len(shape) - 1
    neutral = {"stride": [1] * axes, "padding": [0] * axes, "dilation": [1] * axes, "groups": [1]}
    return writer.put(kind, (x.position,), shape, (1, *shape), arrays, **{**neutral, **settings})


def _ungrouped(node: Node) -> Node:
    """The same with one group, its weight 0 between the former ones."""
    groups, weight = node.settings["groups"][0], node.arrays["weight"]
    if groups == 1:
        return node
    rows, columns = len(weight) // groups, weight.shape[1]
    whole = np.zeros((len(weight), columns * groups, *weight.shape[2:]))
    for i in range(groups):
        block = slice(i * rows, (i + 1) * rows)
        whole[block, i * columns : (i + 1) * columns] = weight[block]
    return replace(
        node, arrays={**node.arrays, "weight": whole}, settings={**node.settings, "groups": (1,)}
    )


def _spread(node: Node) -> Node:
    """The same without dilation, its kernel with zeros between."""
    weight, dilation = node.arrays["weight"], node.settings["dilation"]
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    wide = np.zeros((*weight.shape[:2], *reach))
    wide[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    settings = {**node.settings, "dilation": (1,) * len(dilation)}
    return replace(node, arrays={**node.arrays, "weight": wide}, settings=settings)


def _in_the_plane(node: Node, shape: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
    """A convolution of one or three axes as one of two, and the shape that it reads."""
    if len(shape) == 2:
        settings = {
            name: numbers if name == "groups" else (_ALONE[name], *numbers)
            for name, numbers in node.settings.items()
        }
        if node.kind == "conv_transpose":  # the same stride on both axes, one of which is 1 long
            settings["stride"] = node.settings["stride"] * 2
        arrays = {**node.arrays, "weight": node.arrays["weight"][:, :, None]}
        seen = (node.shape[0], 1, *node.shape[1:])
        return replace(node, arrays=arrays, settings=settings, shape=seen), (shape[0], 1, shape[1])
    rows = node.shape[0] * node.shape[1] * shape[0] * shape[1]
    if len(shape) == 4 and rows * size(node.arrays["weight"].shape[3:]) <= LARGEST_KERNEL:
        return _slices_as_channels(_ungrouped(node), shape)
    return node, shape


def _slices_as_channels(node: Node, shape: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
    weight, bias = node.arrays["weight"], node.arrays["bias"]
    stride, padding, dilation = (node.settings[k][0] for k in ("stride", "padding", "dilation"))
    back = node.kind == "conv_transpose"
    # Slice `near` of the finer side meets slice `far` of the coarser through one of the kernel.
    fine, coarse = (node.shape[1], shape[1]) if back else (shape[1], node.shape[1])
    whole = np.zeros((weight.shape[0], coarse, weight.shape[1], fine, *weight.shape[3:]))
    for far in range(coarse):
        for k in range(weight.shape[2]):
            near = far * stride - padding + k * dilation
            if 0 <= near < fine:
                whole[:, far, :, near] += weight[:, :, k]
    arrays = {
        "weight": whole.reshape(weight.shape[0] * coarse, -1, *weight.shape[3:]),
        "bias": np.repeat(bias, node.shape[1]),
    }
    settings = {
        name: numbers if name == "groups" else numbers[1:]
        for name, numbers in node.settings.items()
    }
    seen = (node.shape[0] * node.shape[1], *node.shape[2:])
    flat = (shape[0] * shape[1], *shape[2:])
    return replace(node, arrays=arrays, settings=settings, shape=seen), flat


_ALONE = MappingProxyType({"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0})
_RULES: Mapping[Kind, _Rule] = MappingProxyType(
    {
        "along": _along, "take": _take, "pad": _pad, "conv": _conv,
        "conv_transpose": _conv_transpose,
    }
)  # fmt: skip

"""Constants and zeros around, taken into a neighbouring convolution or dense layer."""

from dataclasses import replace

import numpy as np

from robustbench_med.proofs.network import Floats, Node, size


def scale_after(node: Node, before: Node) -> Node | None:
    """Take a scale into the layer before it, if it does the same to all of a channel."""
    factor = _by_channel(node.arrays["factor"], node.shape)
    shift = _by_channel(node.arrays["shift"], node.shape)
    if factor is None or shift is None:
        return None
    weight = before.arrays["weight"]
    if before.kind == "conv_transpose":
        scaled = _grouped(weight, before) * _axis(factor, before, weight.ndim, 2)
    else:
        scaled = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    arrays = {
        "weight": scaled.reshape(weight.shape),
        "bias": before.arrays["bias"] * factor + shift,
    }
    return replace(before, arrays=arrays)


def scale_before(node: Node, before: Node) -> Node | None:
    """Take a scale into the layer after it; zeros around an image that it shifts forbid it."""
    factor = _by_channel(before.arrays["factor"], before.shape)
    shift = _by_channel(before.arrays["shift"], before.shape)
    if factor is None or shift is None:
        return None
    uniform = node.kind == "dense" or (node.kind == "conv" and not any(node.settings["padding"]))
    if shift.any() and not uniform:
        return None
    weight, bias = node.arrays["weight"], node.arrays["bias"]
    if node.kind == "dense":
        arrays = {"weight": weight * factor, "bias": bias + weight @ shift}
    elif node.kind == "conv_transpose":
        arrays = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)), "bias": bias}
    else:
        parts = _grouped(weight, node)
        added = (parts * _axis(shift, node, weight.ndim, 2)).reshape(len(weight), -1).sum(axis=1)
        scaled = (parts * _axis(factor, node, weight.ndim, 2)).reshape(weight.shape)
        arrays = {"weight": scaled, "bias": bias + added}
    return replace(node, inputs=before.inputs, arrays=arrays)


def zeros_before(node: Node, before: Node) -> Node | None:
    """Take zeros around an image into a convolution, its kernel made larger where they differ."""
    low, high = before.settings["before"], before.settings["after"]
    if low[0] or high[0]:
        return None
    weight, paddings = node.arrays["weight"], []
    more = [(0, 0), (0, 0)]
    settings = zip(
        low[1:], high[1:], node.settings["padding"], node.settings["dilation"], strict=True
    )
    for first, last, padding, dilation in settings:
        if (last - first) % dilation:
            return None
        paddings.append(max(first, last) + padding)
        apart = (last - first) // dilation
        more.append((max(apart, 0), max(-apart, 0)))
    return replace(
        node,
        inputs=before.inputs,
        arrays={**node.arrays, "weight": np.pad(weight, more)},
        settings={**node.settings, "padding": tuple(paddings)},
    )


def _by_channel(array: Floats, shape: tuple[int, ...]) -> Floats | None:
    """A constant's value in each channel of a shape, or None if it differs within one."""
    whole = array.reshape(*(1,) * (len(shape) - array.ndim), *array.shape)
    if size(whole.shape[1:]) > 1:
        return None
    return np.broadcast_to(whole.reshape(-1), shape[:1]).astype(np.float64)


def _grouped(weight: Floats, node: Node) -> Floats:
    return weight.reshape(node.settings["groups"][0], -1, *weight.shape[1:])


def _axis(numbers: Floats, node: Node, axes: int, at: int) -> Floats:
    shape = [1] * (axes + 1)
    shape[0], shape[at] = node.settings["groups"][0], -1
    return numbers.reshape(shape)

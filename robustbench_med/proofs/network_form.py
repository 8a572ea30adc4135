"""Whether a network written out is one: nodes of the shapes they say, finite numbers in them."""

import itertools
from collections.abc import Sequence

import numpy as np

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.network import Network, Node

KINDS: dict[str, tuple[set[str], set[str]]] = {
    "conv": ({"weight", "bias"}, {"stride", "padding", "dilation", "groups"}),
    "conv_transpose": (
        {"weight", "bias"},
        {"stride", "padding", "dilation", "groups", "output_padding"},
    ),
    "dense": ({"weight", "bias"}, set()),
    "along": ({"weight"}, {"axis"}),
    "scale": ({"factor", "shift"}, set()),
    "sum": (set(), set()),
    "concat": (set(), {"axis"}),
    "reshape": (set(), set()),
    "permute": (set(), {"axes"}),
    "take": ({"index"}, {"axis"}),
    "pad": (set(), {"before", "after"}),
    "relu": (set(), set()),
}
POSITIVE = ("stride", "dilation", "groups")


def well_formed(network: Network) -> None:
    """Check a network's form.

    Raises:
        IntegrityError: With the first node that is not what it must be.
    """
    if not network.nodes or network.nodes[0].kind != "input":
        raise IntegrityError("the first node of a network must be its input")
    for position, node in enumerate(network.nodes):
        problem = _whole(node) or (_problem(position, node, network.nodes) if position else None)
        if problem:
            raise IntegrityError(f"node {position} ({node.kind}) of the network {problem}")


def _problem(position: int, node: Node, nodes: Sequence[Node]) -> str | None:
    if node.kind not in KINDS:
        return f"must be one of {', '.join(KINDS)}"
    several = node.kind in ("sum", "concat")
    if not node.inputs or (len(node.inputs) > 1 and not several):
        return f"must have one input, got {len(node.inputs)}"
    if any(not 0 <= i < position for i in node.inputs):
        return f"must read earlier nodes, reads {node.inputs}"
    shapes = [nodes[i].shape for i in node.inputs]
    return _arrays(node) or _settings(node, shapes[0]) or _shape(node, shapes)


def _whole(node: Node) -> str | None:
    numbers = [*node.inputs, *node.shape, *itertools.chain(*node.settings.values())]
    if not all(isinstance(number, int | np.integer) for number in numbers):
        return f"must be described by whole numbers, got {numbers}"
    return None if all(length > 0 for length in node.shape) else f"has shape {node.shape}"


def _arrays(node: Node) -> str | None:
    names = KINDS[node.kind][0]
    if set(node.arrays) != names:
        return f"must have the arrays {sorted(names)}, has {sorted(node.arrays)}"
    for name, array in node.arrays.items():
        kind = np.int64 if name == "index" else np.float64
        if array.dtype != kind or not np.isfinite(array).all():
            return f"must have a finite {name} of {kind.__name__}, got {array.dtype}"
    return None


def _settings(node: Node, shape: tuple[int, ...]) -> str | None:
    names = KINDS[node.kind][1]
    if set(node.settings) != names:
        return f"must have the settings {sorted(names)}, has {sorted(node.settings)}"
    axes = len(shape) if node.kind == "pad" else len(shape) - 1
    for name, values in node.settings.items():
        wanted = len(shape) if name == "axes" else 1 if name in ("axis", "groups") else axes
        if len(values) != wanted or any(value < (name in POSITIVE) for value in values):
            return f"cannot have {name} {values} on a value of shape {shape}"
    axes_of_it = set(node.settings.get("axes", range(len(shape))))
    if axes_of_it != set(range(len(shape))) or node.settings.get("axis", (0,))[0] >= len(shape):
        return f"cannot have {dict(node.settings)} on a value of shape {shape}"
    return None


def _shape(node: Node, shapes: Sequence[tuple[int, ...]]) -> str | None:
    given = shapes[0]
    expected = {
        "scale": given, "relu": given, "sum": given,
    }.get(node.kind, node.shape)  # fmt: skip
    if node.shape != expected or (node.kind == "sum" and set(shapes) != {given}):
        return f"must have the shape of its inputs, {given}, got {node.shape}"
    wrong = _operands(node, given)
    if wrong:
        return wrong
    try:
        # Twice the same: what mixes cases up shows in the shape.
        found = forward(node, [np.zeros((2, *shape)) for shape in shapes]).shape
    except (ValueError, IndexError) as error:
        return f"cannot be computed: {error}"
    return None if found == (2, *node.shape) else f"has shape {found[1:]}, says {node.shape}"


def _operands(node: Node, given: tuple[int, ...]) -> str | None:
    arrays = node.arrays
    match node.kind:
        case "conv" | "conv_transpose":
            right = arrays["weight"].ndim == len(given) + 1 == len(node.shape) + 1
            right = right and arrays["bias"].shape == node.shape[:1]
            right = right and _lengths(node, given) == node.shape[1:]
        case "dense":
            right = len(given) == 1 and arrays["weight"].shape == node.shape + given
            right = right and arrays["bias"].shape == node.shape
        case "along":
            right = arrays["weight"].ndim == 2
        case "scale":
            right = all(_fits(array.shape, given) for array in arrays.values())
        case "take":
            index, length = arrays["index"], given[node.settings["axis"][0]]
            right = index.ndim == 1 and bool(((index >= 0) & (index < length)).all())
        case _:
            right = True
    shapes = {name: array.shape for name, array in arrays.items()}
    return None if right else f"cannot apply arrays of shapes {shapes} to a value of shape {given}"


def _lengths(node: Node, given: tuple[int, ...]) -> tuple[int, ...]:
    stride, padding, dilation = (node.settings[name] for name in ("stride", "padding", "dilation"))
    kernel = node.arrays["weight"].shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if node.kind == "conv":
        axes = zip(given[1:], reach, stride, padding, strict=True)
        return tuple((n + 2 * p - r) // s + 1 for n, r, s, p in axes)
    more = node.settings["output_padding"]
    axes_up = zip(given[1:], reach, stride, padding, more, strict=True)
    return tuple((n - 1) * s - 2 * p + r + m for n, r, s, p, m in axes_up)


def _fits(shape: tuple[int, ...], given: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, given) == given
    except ValueError:
        return False

"""A torch network written out as affine operations and ReLU, and proof that it is the same."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from robustbench_med.certify.lowering_aten import translated
from robustbench_med.certify.lowering_nodes import Value, Writer
from robustbench_med.certify.lowering_tidying import tidied
from robustbench_med.certify.operators import without_dropout
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network import Network

Head = Literal["", "softmax", "log_softmax", "sigmoid"]
ALLOWED = 1e-9
_HEADS: dict[str, Head] = {
    "aten::_softmax": "softmax", "aten::_log_softmax": "log_softmax", "aten::sigmoid": "sigmoid",
}  # fmt: skip


@dataclass(frozen=True)
class Lowered:
    """A network written out.

    Attributes:
        network: What it computes for one case, up to `head`.
        tolerance: Largest difference seen, by 1 + the largest value of that output, in float64.
        points: How many images it was seen at.
        head: What the torch network does last, left out: `network` gives logits. Their margins
            have the signs of the margins after a softmax or log_softmax; a logit is above 0
            exactly where its sigmoid is above one half.
    """

    network: Network
    tolerance: float
    points: int
    head: Head = ""


def lowered(network: nn.Module, image: Tensor) -> Lowered:
    """Write a network out for images of one size, in evaluation mode; it is left as it was.

    Args:
        network: Maps `(1, c, *s)` to `(1, ...)`, by one fixed graph.
        image: `(1, c, *s)`, finite.

    Raises:
        InputError: If the image is no single finite case.
        UnsupportedError: If an operator cannot be written exactly as these nodes, or what is
            written computes something else.
    """
    if image.ndim < 2 or len(image) != 1 or not image.isfinite().all():
        raise InputError(
            f"lowered: image must be one finite case (1, c, *s), got {tuple(image.shape)}"
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        plain = without_dropout(copy.deepcopy(network)).cpu().double().eval()
        plain.requires_grad_(requires_grad=False)
        start = image.detach().cpu().double()
        _run(plain, start)
        graph = _traced(plain, start)
        written, head = _written(graph, tuple(start.shape))
        seen = list(_points(start))
        tolerance = max(_difference(plain, written, head, point) for point in seen)
    if not tolerance <= ALLOWED:
        raise UnsupportedError(
            "certify: unsupported network: written out it computes something else (by "
            f"{tolerance:.3g} of its largest value, at most {ALLOWED:g} is rounding); its forward "
            "must be one fixed graph, without random numbers and without writing into parts of "
            "tensors"
        )
    return Lowered(written, tolerance, len(seen), head)


def _run(plain: nn.Module, image: Tensor) -> None:
    try:
        plain(image)
    except RuntimeError as error:
        raise UnsupportedError(
            "certify: unsupported network: it cannot answer in float64 "
            f"({str(error).splitlines()[0][:120]})"
        ) from error


def _traced(plain: nn.Module, image: Tensor) -> fx.GraphModule:
    try:
        graph: fx.GraphModule = make_fx(plain)(image.clone())
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedError(
            "certify: unsupported network: its forward cannot be read as one fixed graph; it must "
            f"not decide by the values of the image ({str(error).splitlines()[0][:120]})"
        ) from error
    return graph


def _written(graph: fx.GraphModule, shape: tuple[int, ...]) -> tuple[Network, Head]:
    writer = Writer(shape)
    known: dict[fx.Node, Any] = {}
    nodes = [node for node in graph.graph.nodes if node.op != "output"]
    answer = _answer(graph)
    head: Head = ""
    for node in nodes:
        if node.op == "placeholder":
            known[node] = writer.start
        elif node.op == "get_attr":
            known[node] = getattr(graph, str(node.target))
        elif node is answer and (found := _head(node, known)):
            head, answer = found, node.all_input_nodes[0]
        elif node.users:  # what nothing reads need not be known
            known[node] = _result(writer, node, known)
    result = known[answer]
    if not isinstance(result, Value):
        raise UnsupportedError("certify: unsupported network: its output is a constant")
    return tidied(writer.nodes, result.position), head


def _answer(graph: fx.GraphModule) -> fx.Node:
    answer = graph.graph.output_node().args[0]
    if isinstance(answer, fx.Node):
        return answer
    raise UnsupportedError("certify: unsupported network: it must return one tensor")


def _head(node: fx.Node, known: dict[fx.Node, Any]) -> Head:
    if not isinstance(node.target, torch._ops.OpOverload):
        return ""
    name = node.target._schema.name
    before = known.get(node.all_input_nodes[0]) if node.all_input_nodes else None
    if name not in _HEADS or not isinstance(before, Value) or len(node.users) != 1:
        return ""
    over_classes = name == "aten::sigmoid" or node.args[1] in (1, 1 - len(before.shape))
    return _HEADS[name] if over_classes else ""


def _result(writer: Writer, node: fx.Node, known: dict[fx.Node, Any]) -> Any:  # noqa: ANN401
    operator = node.target
    args = fx.map_arg(node.args, lambda each: known[each])
    kwargs = fx.map_arg(node.kwargs, lambda each: known[each])
    if not isinstance(operator, torch._ops.OpOverload):
        return operator(*args, **kwargs)  # type: ignore[operator]  # getitem
    if torch.Tag.nondeterministic_seeded in operator.tags:
        raise UnsupportedError(
            f"certify: unsupported operator {operator._schema.name.removeprefix('aten::')}: a "
            "network must not draw random numbers"
        )
    if not any(
        isinstance(known[each], Value) or _holds(known[each]) for each in node.all_input_nodes
    ):
        return operator(*args, **kwargs)
    schema = operator._schema.arguments
    given = [
        args[i] if i < len(args) else kwargs.get(each.name, each.default_value)
        for i, each in enumerate(schema)
    ]
    return translated(writer, operator, given)


def _holds(known: Any) -> bool:  # noqa: ANN401
    return isinstance(known, (list, tuple)) and any(isinstance(each, Value) for each in known)


def _points(image: Tensor) -> Iterator[Tensor]:
    stream = np.random.default_rng(0)
    shape = tuple(image.shape)
    yield image
    for constant in (0.0, 1.0, -1.0):
        yield torch.full_like(image, constant)
    for _ in range(2):
        yield torch.from_numpy(stream.uniform(size=shape))
        for size in (1.0, 1e-3, 1e2):
            yield torch.from_numpy(size * stream.normal(size=shape))
    yield image + torch.from_numpy(0.1 * stream.normal(size=shape))


def _difference(plain: nn.Module, written: Network, head: Head, point: Tensor) -> float:
    expected = plain(point.clone())
    found = torch.from_numpy(values(written, point[0].numpy())[-1])[None]
    if expected.numel() != found.numel():
        return float("inf")
    found = found.reshape(expected.shape)
    if head == "sigmoid":
        found = found.sigmoid()
    elif head:
        found = found.softmax(1) if head == "softmax" else found.log_softmax(1)
    error = (found - expected).abs().max() / (1 + expected.abs().max())
    return float(error) if bool(error.isfinite()) else float("inf")

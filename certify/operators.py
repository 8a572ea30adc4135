"""Which of auto-LiRPA's operators are trusted here, and how to name one that is not."""

from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from robustbench_med.certify.shim import auto_lirpa, first_symbolics
from robustbench_med.errors import UnsupportedError

# Each was attacked within its bounds by this project's tests; others are refused, because
# auto-LiRPA bounds some of them wrongly without a word.
TRUSTED = frozenset(
    {
        "Abs", "Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Div",
        "Flatten", "GlobalAveragePool", "Input", "LeakyRelu", "Linear", "MatMul", "MaxPool", "Mul",
        "Neg", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Split",
        "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# What torch calls some of those that are refused.
_ALSO = {
    "Clip": "Clip (clamp, ReLU6)",
    "Erf": "Erf (GELU)",
    "InstanceNormalization": "InstanceNormalization (GroupNorm, InstanceNorm)",
    "Resize": "Resize (Upsample, interpolate)",
}
_BY_CONSTANT = frozenset({"Div", "MatMul"})


def check_operators(nodes: Iterable[Any]) -> None:
    """Refuse a traced network with an operator, or settings of one, that is not trusted.

    Args:
        nodes: The nodes of auto-LiRPA's graph, each after its inputs.

    Raises:
        UnsupportedError: Naming the operator.
    """
    moving: set[str] = set()  # what changes with the image; shapes and the rest are constants
    for node in nodes:
        name = _name_of(node)
        inputs = [source.name in moving for source in node.inputs]
        if name == "Shape" or (name != "Input" and not any(inputs)):
            continue
        moving.add(node.name)
        if name not in TRUSTED:
            raise UnsupportedError(f"certify: unsupported operator {name}")
        if name in _BY_CONSTANT and sum(inputs) > 1:
            raise UnsupportedError(
                f"certify: unsupported operator {name} of two values that change with the image"
            )
        if name in ("MaxPool", "AveragePool"):
            _check_pooling(name, node)


def _check_pooling(name: str, node: Any) -> None:  # noqa: ANN401
    # auto-LiRPA's backward pass takes the windows to lie side by side, and does not look.
    kernel, stride, padding = list(node.kernel_size), list(node.stride), list(node.padding)
    if kernel != stride or any(padding):
        raise UnsupportedError(
            f"certify: unsupported operator {name} with kernel {kernel}, stride {stride}, "
            f"padding {padding}; stride must equal kernel, padding must be 0"
        )


def unknown_operators(network: nn.Module, image: Tensor) -> list[str]:
    """Name the operators of a network that auto-LiRPA has no bounds for.

    Args:
        network: In evaluation mode.
        image: `(1, c, *s)`.
    """
    auto_lirpa()
    parse = import_module("auto_LiRPA.parse_graph").parse_module
    known = {name.removeprefix("Bound") for name in vars(import_module("auto_LiRPA.bound_ops"))}
    try:
        with first_symbolics():
            operators = parse(network, image)[0]
    except (
        AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError,
    ):  # fmt: skip
        return []  # not even traced
    names = (node.op.split("::")[-1] for node in operators)
    return sorted({_ALSO.get(name, name) for name in names if name not in known})


def failed_operator(traceback: TracebackType | None) -> str | None:
    """Find the operator that auto-LiRPA was busy with when it raised an error."""
    found = None
    while traceback is not None:
        for variable in ("node", "self"):
            value = traceback.tb_frame.f_locals.get(variable)
            if type(value).__module__.startswith("auto_LiRPA.operators"):
                found = _name_of(value)
        traceback = traceback.tb_next
    return found


def _name_of(node: object) -> str:
    name = type(node).__name__.removeprefix("Bound")
    return _ALSO.get(name, name)


def without_dropout(network: nn.Module) -> nn.Module:
    """Replace dropout layers, which do nothing in evaluation, in place.

    auto-LiRPA would otherwise put the whole network into training mode to see them.
    """
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kinds):
                setattr(module, name, nn.Identity())
    return nn.Identity() if isinstance(network, kinds) else network

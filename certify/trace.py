"""Let auto-LiRPA read a network, and check that it read it right."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.certify.chunks import BUDGET_BYTES, rows_at_once
from robustbench_med.certify.operators import (
    check_operators,
    failed_operator,
    unknown_operators,
    without_dropout,
)
from robustbench_med.certify.shim import auto_lirpa, first_symbolics
from robustbench_med.errors import UnsupportedError

# What auto-LiRPA and the tracer have been seen to raise on networks that they cannot read.
ENGINE_ERRORS = (
    AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
# Rounding may differ between the network and its graph, by no more than this of the output.
_SAME = 1e-4


@dataclass(frozen=True)
class Traced:
    """A copy of a network, and auto-LiRPA's graph of it for one case of one shape.

    Attributes:
        network: The copy, in evaluation mode.
        graph: auto-LiRPA's `BoundedModule`; its outputs are flat.
        output: `(...)`, the output for the image it was traced with.
        rows_at_once: Rows that fit in memory together.
    """

    network: nn.Module
    graph: Any
    output: Tensor
    rows_at_once: int


def trace(network: nn.Module, image: Tensor, budget: int = BUDGET_BYTES) -> Traced:
    """Copy a network and let auto-LiRPA read the copy.

    Args:
        network: Left as it is; bounded in evaluation mode.
        image: `(1, c, *s)`, finite.
        budget: Bytes that a chunk of rows may take.

    Raises:
        UnsupportedError: If it has an operator that is not trusted, or auto-LiRPA's graph of it
            computes something else.
    """
    plain = without_dropout(copy.deepcopy(network)).eval().requires_grad_(requires_grad=False)
    with torch.no_grad():
        output = plain(image)
    with quiet(output.dtype):
        graph = _flat_graph(plain, image, output)
        # Tracing turns what leaves torch into a constant, which shows at another image only.
        for seen in (image, image.flip(-1) / 2):
            _check_same(plain(seen).flatten(start_dim=1), graph(seen))
    nodes = list(graph.children())
    check_operators(nodes)
    widest = max(node.output_shape.numel() for node in nodes if node.output_shape is not None)
    rows = rows_at_once(widest, output.element_size(), budget, output.device)
    graph.bound_opts["crown_batch_size"] = rows
    return Traced(plain, graph, output[0], rows)


def _flat_graph(network: nn.Module, image: Tensor, output: Tensor) -> Any:  # noqa: ANN401
    # Rows need flat outputs. A last linear layer is left as it is: with the rows merged into it
    # IBP is tighter; any other flat output would trip auto-LiRPA 0.3.
    if output.ndim == 2:
        graph = _graph(network, image)
        if type(graph.final_node()).__name__ == "BoundLinear":
            return graph
    # The outermost module's mode is the one that tracing obeys.
    return _graph(nn.Sequential(network, nn.Flatten()).eval(), image)


def _graph(network: nn.Module, image: Tensor) -> Any:  # noqa: ANN401
    engine = auto_lirpa()
    # Matrix mode always: the default, patches, is unsound where branches of different stride meet.
    options = {"conv_mode": "matrix", "crown_batch_size": 1}
    try:
        with first_symbolics():
            return engine.BoundedModule(copy.deepcopy(network), image, bound_opts=options)
    except ENGINE_ERRORS as error:
        unknown = unknown_operators(network, image)
        raise unsupported(error, ", ".join(unknown) or None) from error


def unsupported(error: Exception, operator: str | None = None) -> UnsupportedError:
    """Say which operator was too much for auto-LiRPA, as far as it can be told."""
    operator = operator or failed_operator(error.__traceback__)
    what = f"operator {operator}" if operator else "network"
    return UnsupportedError(f"certify: unsupported {what}: auto-LiRPA says {error!r}")


def _check_same(output: Tensor, seen: Tensor) -> None:
    allowed = _SAME * (1 + float(output.abs().max()))
    if seen.shape == output.shape and bool(((seen - output).abs() <= allowed).all()):
        return
    raise UnsupportedError(
        "certify: unsupported network: its graph in auto-LiRPA computes something else "
        f"(shape {tuple(seen.shape)} for {tuple(output.shape)}, or values more than {allowed:.3g} "
        "apart); its forward must be one fixed graph that treats each case by itself"
    )


@contextmanager
def quiet(dtype: torch.dtype) -> Iterator[None]:
    """Run the engine without its warnings, gradients or traces in the global random state.

    auto-LiRPA 0.3 makes its own matrices in the default data type, so that is set to `dtype`.
    """
    before, state = torch.get_default_dtype(), torch.get_rng_state()
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)
        torch.set_rng_state(state)

"""Bounds on a network's outputs over a set of images, by auto-LiRPA."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from robustbench_med.certify.audit import POINTS, audit, sampled
from robustbench_med.certify.chunks import in_chunks, is_out_of_memory
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.margin import DenseRows, Rows, and_negated, identity_rows
from robustbench_med.certify.rebuilt import Rebuilt
from robustbench_med.certify.region import Region, box
from robustbench_med.certify.shim import auto_lirpa
from robustbench_med.certify.trace import ENGINE_ERRORS, Traced, quiet, trace, unsupported
from robustbench_med.errors import InputError, UnsupportedError

Method = Literal["ibp", "crown_ibp", "crown"]
SLACK = 1e-5
_NAMES = {"ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN"}


def bound(
    network: nn.Module,
    low: Tensor,
    high: Tensor,
    rows: Tensor | None = None,
    *,
    method: Method = "crown",
) -> tuple[Tensor, Tensor]:
    """Bound `rows @ network(x).flatten(1)` over every `x` between `low` and `high`.

    Sound in real arithmetic, up to the rounding of the network's own floating-point type;
    samples are checked to respect it. `network` is bounded in evaluation mode and left as it
    was; what auto-LiRPA cannot read is written out first. No method is looser than "ibp".

    Args:
        network: Maps `(b, c, *s)` to `(b, ...)` with `m` values per case, each case by itself.
        low: `(b, c, *s)`, finite.
        high: `(b, c, *s)`, finite, nowhere below `low`.
        rows: `(r, m)`, `(b, r, m)`, or None for all outputs.
        method: "ibp", "crown_ibp" or "crown", from the fastest to the tightest.

    Returns:
        Lower and upper limits, each `(b, r)`.

    Raises:
        InputError: If the corners or rows have wrong shapes, types or values.
        UnsupportedError: If the network has an operator that cannot be bounded.
        IntegrityError: If a sampled image lies outside the limits.

    Source: Gowal et al., arXiv:1810.12715 (IBP); Zhang et al., NeurIPS 2018,
        arXiv:1811.00866 (CROWN); Xu et al., NeurIPS 2020, arXiv:2002.12920 (auto-LiRPA).
    """
    if method not in get_args(Method):
        raise InputError(f"bound: method must be one of {get_args(Method)}, got {method!r}")
    region = box(low, high)
    traced = _traced(network, region.centre[:1])
    lower, upper = [], []
    for case, wanted in enumerate(_rows_of_cases(traced, rows, len(region))):
        limits = _limits(traced, region[case], wanted, method)
        lower.append(limits[0])
        upper.append(limits[1])
    return torch.stack(lower), torch.stack(upper)


def _traced(network: nn.Module, image: Tensor) -> Traced:
    """Let auto-LiRPA read a network as it is, or as it is written out where it cannot."""
    try:
        return trace(network, image)
    except UnsupportedError:
        again = _as_written(network, image)
        if again is None:
            raise
        return again


def _as_written(network: nn.Module, image: Tensor) -> Traced | None:
    if image.ndim > 4:  # a volume's convolutions in the plane fill the memory, 20 GiB for 8 x 8
        return None
    try:
        written = lowered(network, image)
        if written.head:  # its outputs would be logits
            return None
        return trace(Rebuilt(written.network, image.dtype).to(image.device), image)
    except UnsupportedError:
        return None


def _rows_of_cases(traced: Traced, rows: Tensor | None, cases: int) -> list[Rows]:
    outputs = traced.output.numel()
    if rows is None:
        return [identity_rows(outputs, traced.output)] * cases
    shared = rows.ndim == 2
    if rows.shape[-1:] != (outputs,) or not (shared or (rows.ndim == 3 and len(rows) == cases)):
        raise InputError(
            f"bound: rows must be (r, {outputs}) or ({cases}, r, {outputs}), "
            f"got {tuple(rows.shape)}"
        )
    if not (rows.numel() and rows.isfinite().all()):
        raise InputError("bound: rows must be finite, and at least one")
    each = rows.detach().to(traced.output)
    return [DenseRows(each)] * cases if shared else [DenseRows(matrix) for matrix in each]


def _limits(traced: Traced, region: Region, rows: Rows, method: Method) -> tuple[Tensor, Tensor]:
    both = and_negated(rows)
    lower = lowest(traced, region, both, "ibp")
    if method != "ibp":
        lower = torch.maximum(lower, lowest(traced, region, both, method))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(POINTS, *region.low.shape[1:], generator=generator)
    audit(sampled(traced.network, region.points(noise)), both, lower, SLACK)
    least, least_negated = lower.chunk(2)
    return least, -least_negated


def lowest(traced: Traced, region: Region, rows: Rows, method: Method) -> Tensor:
    """Bound rows of a network's outputs from below, over the region of one case.

    One case at a time: which neurons auto-LiRPA bounds closely depends on the others in a
    batch, and a value must not.

    Args:
        traced: The network.
        region: Of one case.
        rows: `r` rows of its `m` flattened outputs, at least one.
        method: How.

    Returns:
        `(r,)`; minus infinity where the engine found no finite limit.

    Raises:
        UnsupportedError: If the engine gives up, or a single row does not fit in memory.
    """
    perturbation = _perturbation(region)
    start: Any = (auto_lirpa().BoundedTensor(region.centre, perturbation),)

    def work(part: slice) -> Tensor:
        nonlocal start
        matrix = rows.dense(part)[None]
        lower = _compute(traced, start, matrix, method)
        start = None  # what lies before the output is bounded now, and is used again
        return lower

    return in_chunks(work, len(rows), traced.rows_at_once)


def _compute(traced: Traced, start: Any, matrix: Tensor, method: Method) -> Tensor:  # noqa: ANN401
    with quiet(matrix.dtype):
        try:
            limits = traced.graph.compute_bounds(
                x=start, C=matrix, method=_NAMES[method], bound_upper=method == "ibp"
            )
        except ENGINE_ERRORS as error:
            if is_out_of_memory(error):
                options = traced.graph.bound_opts
                options["crown_batch_size"] = max(options["crown_batch_size"] // 2, 1)
                raise
            raise unsupported(error) from error
    lower: Tensor = limits[0][0].detach()
    return lower.where(lower.isfinite(), -torch.inf)


def _perturbation(region: Region) -> Any:  # noqa: ANN401
    engine = auto_lirpa()
    norm = engine.PerturbationLpNorm

    class Cut(norm):  # type: ignore[misc, valid-type]
        """A box cut with an l2 ball: intervals see the box, linear bounds use the better."""

        def concretize(self, x: Tensor, A: Any, sign: int = -1, aux: Any = None) -> Any:  # noqa: ANN401, N803
            boxed = super().concretize(x, A, sign=sign, aux=aux)
            if not isinstance(A, Tensor) or region.radius is None:
                return boxed
            slope = A.flatten(start_dim=2)
            free = (region.high > region.low).flatten()
            reach = (slope * free).norm(dim=-1) * region.radius
            middle = slope @ region.centre.flatten()
            better = torch.maximum if sign < 0 else torch.minimum
            return better(boxed, (middle + sign * reach).view_as(boxed))

    kind = norm if region.radius is None else Cut
    return kind(norm=float("inf"), x_L=region.low, x_U=region.high)

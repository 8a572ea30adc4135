"""Margins over a box as VNN-LIB, the text in which verifiers are asked questions."""

from collections.abc import Iterator
from decimal import Decimal
from math import isfinite

from torch import Tensor

from robustbench_med.certify.margin import Rows, SparseRows
from robustbench_med.certify.region import box
from robustbench_med.errors import InputError


def to_vnnlib(low: Tensor, high: Tensor, rows: Rows, needed: float = 0.0) -> str:
    """Ask whether any row can be as small as `needed` somewhere in the box.

    `unsat` means that every row exceeds `needed` all over it: certified. Numbers are written out
    in full, as the exact decimal value of each binary one, so that none is rounded, whether they
    are read as float32 (if they were that), float64 or rationals. A difference of two outputs
    against 0 is written `(<= Y_i Y_j)`, which every reader knows; few know any other sum.

    Args:
        low: `(1, c, *s)`, the box's lower corner. `X_i` is its element `i` in row-major order.
        high: The same, its upper corner.
        rows: Linear functions of the outputs `Y_j`, flat in row-major order.
        needed: What every row is to exceed.

    Raises:
        InputError: If a number is not finite, the box is none of one case, or a row is empty.

    Source: VNN-LIB 1.0 (Demarchi et al., 2023); the form is that of VNN-COMP.
    """
    region = box(low, high)
    if len(region) != 1:
        raise InputError(f"to_vnnlib: expected the box of one case, got {len(region)}")
    if len(rows) == 0:
        raise InputError("to_vnnlib: expected at least one row, got none")
    outputs = rows.dense(slice(0, 1)).shape[1]
    low_values, high_values = (corner.flatten().tolist() for corner in (region.low, region.high))
    lines = [
        *(f"(declare-const X_{i} Real)" for i in range(len(low_values))),
        *(f"(declare-const Y_{j} Real)" for j in range(outputs)),
    ]
    for i, (least, most) in enumerate(zip(low_values, high_values, strict=True)):
        lines += [f"(assert (>= X_{i} {_decimal(least)}))", f"(assert (<= X_{i} {_decimal(most)}))"]
    broken = [_at_most(terms, needed) for terms in _terms(rows)]
    if len(broken) == 1:
        lines.append(f"(assert {broken[0]})")
    else:
        lines += ["(assert (or", *(f"    (and {one})" for one in broken), "))"]
    return "\n".join(lines) + "\n"


def _decimal(value: float) -> str:
    """The exact value, without an exponent."""
    if not isfinite(value):
        raise InputError(f"to_vnnlib: expected finite numbers, got {value}")
    text = format(Decimal(value), "f")
    return text if "." in text else f"{text}.0"


def _terms(rows: Rows) -> Iterator[list[tuple[int, float]]]:
    """Outputs and factors of each row, those of 0 left out."""
    if isinstance(rows, SparseRows):
        pairs = zip(rows.columns.tolist(), rows.values.tolist(), strict=True)
    else:
        dense = rows.dense(slice(None)).tolist()
        pairs = zip([range(len(row)) for row in dense], dense, strict=True)
    for columns, values in pairs:
        yield [(j, value) for j, value in zip(columns, values, strict=True) if value != 0]


def _at_most(terms: list[tuple[int, float]], needed: float) -> str:
    if not terms:
        raise InputError("to_vnnlib: expected rows that read an output, got one of zeros")
    factors = [value for _, value in terms]
    if len(terms) == 2 and needed == 0 and factors[0] == -factors[1]:
        less, more = sorted(terms, key=lambda term: -term[1])
        return f"(<= Y_{less[0]} Y_{more[0]})"
    if len(terms) == 1 and abs(factors[0]) == 1:
        sign = "<=" if factors[0] > 0 else ">="
        return f"({sign} Y_{terms[0][0]} {_decimal(factors[0] * needed)})"
    products = " ".join(f"(* {_decimal(value)} Y_{j})" for j, value in terms)
    return f"(<= {products if len(terms) == 1 else f'(+ {products})'} {_decimal(needed)})"

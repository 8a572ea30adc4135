"""How numbers, intervals and foreign text are put into words, the same in every report.

Attribute values and file texts come from outside: here they become one short line without
control or direction characters. Escaping for HTML, XML or Markdown is the writer's task.
"""

import math
import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

CROSS = " \N{MULTIPLICATION SIGN} "
DASH = "\N{EN DASH}"
FEW = 10
"""Below so many patients no value and no count is shown."""


def label(text: object, width: int = 60) -> str:
    """One printable line of at most `width` characters; longer text ends in an ellipsis."""
    head = str(text)[: 4 * width]
    kept = (" " if c.isspace() else c for c in head if not _is_hidden(c))
    line = " ".join("".join(kept).split())
    if len(line) <= width and len(str(text)) <= 4 * width:
        return line or "(empty)"
    return line[: width - 1].rstrip() + "…"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") and not (
        character.isspace()
    )


def number(value: float | None) -> str:
    """A number to three decimals, to one from 100 on, to three digits where extreme."""
    return _rounded(value, ROUND_HALF_EVEN)


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, rounded outward so that it never looks narrower than it is."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return DASH
    size = max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)
    return f"[{_rounded(low, ROUND_FLOOR, size)}, {_rounded(high, ROUND_CEILING, size)}]"


def estimate(value: float | None, low: float | None, high: float | None, patients: object) -> str:
    """`0.812 [0.770, 0.851] n=212`, with an en dash for what is not known."""
    if _is_absent(value):
        return f"{DASH} {people(patients)}"
    return f"{number(value)} {interval(low, high)} {people(patients)}"


def people(patients: object) -> str:
    """`n=212`, or `n<10`."""
    return f"n{count(patients)}" if count(patients).startswith("<") else f"n={count(patients)}"


def count(patients: object) -> str:
    """A number of patients or cases; fewer than ten are not told apart."""
    if _is_absent(patients):
        return DASH
    whole = int(patients)  # type: ignore[call-overload]
    return f"<{FEW}" if 0 < whole < FEW else str(whole)


def plain_count(items: object) -> str:
    """A count that identifies nobody: undefined values, failures, probes."""
    return DASH if _is_absent(items) else str(int(items))  # type: ignore[call-overload]


def share(part: float, whole: float) -> str:
    """A percentage to one decimal."""
    return f"{part / whole:.1%}" if whole else DASH


def harm(value: float, better: str) -> float:
    """A value turned so that larger means worse."""
    if better == "one":
        return abs(value - 1)
    return {"higher": -value, "lower": value}.get(better, abs(value))


def split_called(name: str) -> str:
    """The split that a test is held against: "training", or its name where it is another."""
    return "training" if name == "train" else repr(label(name, 30))


def p_value(p: float | None) -> str:
    """`p = 0.004`, never rounded up to a level that it stays below."""
    if p is None or math.isnan(p):
        return DASH
    if p < 0.001:
        return "p < 0.001"
    return "p < 0.05" if 0.0495 <= p < 0.05 else f"p = {p:.3f}"


def _is_absent(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 (NaN, and pandas' own markers)


def _rounded(value: float | None, rounding: str, size: float | None = None) -> str:
    """Decimals by `size`, the largest number beside it, or by its own."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value) if size is None else size
    if size and not 0.001 <= size < 1e6:
        return _three_digits(value, rounding)
    step = Decimal("0.1") if size >= 100 else Decimal("0.001")
    text = str(Decimal(repr(float(value))).quantize(step, rounding))
    return text.removeprefix("-") if float(text) == 0 else text


def _three_digits(value: float, rounding: str) -> str:
    if value == 0:
        return "0"
    step = Decimal(1).scaleb(math.floor(math.log10(abs(value))) - 2)
    return f"{Decimal(repr(float(value))).quantize(step, rounding):.2e}"

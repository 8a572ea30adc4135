"""The tables as docs/certify.md prints them, from what was stored."""

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

Result = dict[str, Any]
_NAMES = {
    "ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN", "alpha": "alpha-CROWN",
    "auto_lirpa_crown": "auto-LiRPA's CROWN", "pgd": "gradient search",
    "ladder": "the ladder, with its proof", "engine": "auto-LiRPA's CROWN, every pixel",
    "checker": "the checker alone",
}  # fmt: skip


def name_of(method: str) -> str:
    """As a table says it."""
    if method.startswith("parts_"):
        return f"branch and bound, {method.removeprefix('parts_')} parts"
    return _NAMES[method]


def speed_table(result: Result) -> list[str]:
    """Certified pixels per second, medians over the held-out images."""
    lines = _head("radius", "pixels certified, ladder", "auto-LiRPA", "CPU seconds, ladder",
                  "auto-LiRPA", "checker", "certified pixels a second, ladder", "auto-LiRPA",
                  "times", "times, checked as well", "looser by at most")  # fmt: skip
    for eps in _different(result["speed"], "eps"):
        rows = [row for row in result["speed"] if row["eps"] == eps]
        share = [
            mean(row["certified"][who] / row["pixels"] for row in rows)
            for who in ("ladder", "engine")
        ]
        spent = [
            median(row["seconds"][who] for row in rows) for who in ("ladder", "engine", "checker")
        ]
        looser = max(max(row["looser_by"], 0.0) for row in rows)
        pace = [median(_pace(row, who) for row in rows) for who in ("ladder", "engine")]
        lines.append(_line(
            _radius(eps), *(f"{100 * each:.2f} %" for each in share), *(f"{s:.2f}" for s in spent),
            *(f"{each:.0f}" for each in pace),
            *(f"{median(each):.1f}" for each in _factors(rows)), f"{looser:.1e}",
        ))  # fmt: skip
    return lines


def width_table(result: Result) -> list[str]:
    """Certified by reached width: the median over a network's outputs, and the largest."""
    methods = list(next(iter(result["widths"].values()))["methods"])
    lines = _head("network", "outputs", "radius", *map(name_of, methods))
    for name, row in result["widths"].items():
        cells = [_ratio(row["methods"][method]["ratios"]) for method in methods]
        lines.append(_line(f"`{name}`", str(row["outputs"]), row["about"], *cells))
    return lines


def width_cost_table(result: Result) -> list[str]:
    """CPU seconds and peak memory of each method for both ends of all those outputs."""
    methods = list(next(iter(result["widths"].values()))["methods"])
    lines = _head("network", *map(name_of, methods), name_of("pgd"))
    for name, row in result["widths"].items():
        every = [*(row["methods"][method] for method in methods), row["pgd"]]
        cells = [f"{each['seconds']:.2f} s, {each['peak_mib']:.0f} MiB" for each in every]
        lines.append(_line(f"`{name}`", *cells))
    return lines


def branching_table(result: Result) -> list[str]:
    """Certified accuracy against CPU seconds, and what falsified cases leave at most."""
    lines = _head("radius", "bound", "certified accuracy", "at most", "CPU seconds", "checker")
    for row in result["branching"]:
        most = (row["cases"] - row["falsified"]) / row["cases"]
        for method, count in row["certified"].items():
            checked = row["checker"].get(method)
            lines.append(_line(
                _radius(row["eps"]), name_of(method), f"{100 * count / row['cases']:.1f} %",
                f"{100 * most:.1f} %", f"{row['seconds'][method]:.2f}",
                "-" if checked is None else f"{checked:.2f}",
            ))  # fmt: skip
    return lines


def checker_table(result: Result) -> list[str]:
    """The checker's time by the time it took to find what it checks."""
    lines = _head("proofs", "engine, CPU seconds", "checker", "checker by engine")
    found = [
        (f"64 x 64 pixels, {_radius(row['eps'])}, image {row['image'] + 1}",
         row["seconds"]["ladder"], row["seconds"]["checker"])
        for row in result["speed"]
    ]  # fmt: skip
    found += [
        (f"digits, {_radius(row['eps'])}, {name_of(method)}", row["seconds"][method], checked)
        for row in result["branching"]
        for method, checked in row["checker"].items()
    ]
    for name, engine, checker in found:
        ratio = f"{checker / engine:.2f}" if engine else "-"
        lines.append(_line(name, f"{engine:.2f}", f"{checker:.2f}", ratio))
    return lines


def memory_table(result: Result) -> list[str]:
    """Peak memory of a process that does one thing, and what it held before."""
    lines = _head("what", "before, MiB", "peak, MiB")
    for where, found in result["memory"].items():
        for method, row in found.items():
            cells = f"{row['before_mib']:.0f}", f"{row['peak_mib']:.0f}"
            lines.append(_line(f"{where}: {name_of(method)}", *cells))
    return lines


def tables(result: Result) -> list[list[str]]:
    """All of them, in the order in which the page has them."""
    return [
        speed_table(result), width_table(result), width_cost_table(result),
        branching_table(result), checker_table(result), memory_table(result),
    ]  # fmt: skip


def times(result: Result) -> list[float]:
    """Median factor of the ladder over auto-LiRPA in certified pixels a second, by radius."""
    return [
        median(_factors([row for row in result["speed"] if row["eps"] == eps])[0])
        for eps in _different(result["speed"], "eps")
    ]


def _factors(rows: Sequence[Result]) -> tuple[list[float], list[float]]:
    plain, checked = [], []
    for row in rows:
        spent, theirs = row["seconds"], _pace(row, "engine")
        plain.append(_pace(row, "ladder") / theirs)
        both = spent["ladder"] + spent["checker"]
        checked.append(row["certified"]["ladder"] / both / theirs)
    return plain, checked


def _pace(row: Result, who: str) -> float:
    return float(row["certified"][who] / row["seconds"][who])


def _ratio(ratios: Sequence[float]) -> str:
    return f"{_short(median(ratios))} ({_short(max(ratios))})" if ratios else "-"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _radius(eps: float) -> str:
    return f"{eps * 255:g}/255" if abs(eps * 255 - round(eps * 255)) < 1e-9 else f"{eps:g}"


def _different(rows: Sequence[Result], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _head(*names: str) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

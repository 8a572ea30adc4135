"""The report as one HTML file: no network, no script, the same bytes for the same run."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robustbench_med.components import find, names
from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.verdict import headline
from robustbench_med.reports.wording import DASH

HERE = Path(__file__).parent
ORDER = (
    "verdict", "tested", "split", "overall", "subgroups", "operating", "agreement", "search",
    "robustness", "validity", "shifts", "changes", "certified", "certified_measures",
    "failures", "methods", "provenance",
)  # fmt: skip
LONG = 34
SYMBOLS = {"pass": "✓", "fail": "✗", "undecided": "?", "waived": "~", "warning": "!"}


def render_html(evidence: Evidence) -> str:
    """Render every section, the built-in ones first and in their order.

    Foreign text is escaped, and the page forbids scripts and all loading by its own policy.
    """
    return (
        environment(HERE)
        .get_template("report.html.jinja")
        .render(
            manifest=evidence.manifest,
            headline=headline(evidence),
            verdict=evidence.verdict or "none",
            evidence_state=evidence.manifest["state"],
            sections=sections(evidence),
            css=stylesheet(),
        )
    )


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """Build the declared sections that have something to say; third parties' last, by name."""
    known = names("sections")
    ordered = [name for name in ORDER if name in known]
    ordered += [name for name in known if name not in ORDER]
    found = (find("sections", name)(evidence) for name in ordered)
    return tuple(section for section in found if section is not None)


def stylesheet() -> Markup:
    """The page's style, as it stands in the page."""
    return Markup((HERE / "report.css").read_text(encoding="utf-8"))  # noqa: S704 (our file)


def environment(*folders: Path) -> Environment:
    """Templates in `folders`, with what pages of tables and drawings need; all text is escaped."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["kinds"] = column_kinds
    made.filters["drawing"] = Markup
    made.globals["symbols"] = SYMBOLS
    return made


def column_kinds(table: Table) -> Sequence[str]:
    """Say which columns are "number", set flush right, and which "long", set wide."""
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.columns]
    return [_kind(cells) for cells in columns]


def _kind(cells: Sequence[str]) -> str:
    if cells and all(_is_number(cell) for cell in cells):
        return "number"
    return "long" if any(len(cell) > LONG for cell in cells) else "short"


def _is_number(cell: str) -> bool:
    return cell == DASH or (bool(cell) and not cell.strip("0123456789.,-+e%<[]∞ "))

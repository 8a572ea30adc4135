"""Writes the reports into a run folder, from nothing but that folder."""

from pathlib import Path

from robustbench_med.reports.document import Evidence
from robustbench_med.reports.html import render_html
from robustbench_med.reports.junit import render_junit
from robustbench_med.reports.summary import render_summary
from robustbench_med.runfolder import Run, write_text


def write_reports(run: Run) -> tuple[Path, ...]:
    """Write `report.html`, `summary.md` and `junit.xml`; return their paths.

    The same folder gives the same bytes: even "today", by which waivers expire, is the day on
    which the run finished.

    Raises:
        IncompleteError: If the run never came to its estimates.
    """
    evidence = Evidence.of(run)
    texts = {
        "report.html": render_html(evidence),
        "summary.md": render_summary(evidence),
        "junit.xml": render_junit(evidence.judgements, evidence),
    }
    for name, text in texts.items():
        write_text(run.folder / name, text)
    return tuple(run.folder / name for name in texts)

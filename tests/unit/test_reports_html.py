"""The HTML report: self-contained, inert, complete, and the same bytes for the same run."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from robustbench_med.components import names
from robustbench_med.reports.document import Evidence
from robustbench_med.reports.html import ORDER, render_html
from robustbench_med.reports.wording import DASH, label
from robustbench_med.reports.writer import write_reports
from robustbench_med.runfolder import Run

FIXTURE = runpy.run_path(str(Path(__file__).with_name("reports_fixture.py")))
VOID = {"meta", "br", "hr", "img", "link", "input"}
NUMBER = re.compile(r"^-?\d+(\.\d+)?(e[+-]\d+)?$")
INTERVAL = re.compile(r"^\[-?[\d.e+-]+, -?[\d.e+-]+\]$")


class Page(HTMLParser):
    """What a browser would find: tags in order, texts, and tables as lists of rows."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.texts = [], [], []
        self.captions, self.tables = [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "caption" in self.open:
            self.captions[-1] += data
        elif "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def table(self, caption):
        """Body rows of the first table whose caption begins so, as mappings."""
        place = next(i for i, found in enumerate(self.captions) if found.startswith(caption))
        head, *body = self.tables[place]
        return [dict(zip(head, row, strict=True)) for row in body]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return FIXTURE["shared_run"](tmp_path_factory.getbasetemp() / "reports-cine")


@pytest.fixture(scope="module")
def source(run):
    write_reports(run)
    return (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_the_same_run_gives_the_same_bytes_in_another_process_and_loads_no_torch(
    run, source, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    code = (
        "import sys; from robustbench_med.runfolder import Run;"
        "from robustbench_med.reports.writer import write_reports;"
        f"write_reports(Run.open({str(folder)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    for name in ("report.html", "summary.md", "junit.xml"):
        assert (folder / name).read_bytes() == (run.folder / name).read_bytes(), name


def test_every_section_is_there_once_in_order_and_in_the_contents(page):
    found = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert [*dict.fromkeys(found)] == found == [name for name in ORDER if name in found]
    assert {*names("sections")} - {"split", "certified_measures"} <= {*found}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["#main", *(f"#{name}" for name in found)]


def test_the_page_loads_nothing_runs_nothing_and_forbids_both(page, source):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "form", "base"}
    names = {name for _, attrs in page.tags for name in attrs}
    assert not {name for name in names if name.startswith("on") or name == "src"}
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_is_shown_as_text_in_one_line_of_bounded_length(page, source):
    text = "".join(page.texts)
    assert "site: <script>alert(1)</script>" in text
    assert "=cmd()" in text
    assert "</style><script>x</script>" in text
    assert "<script" not in source
    assert "x" * 100 not in source
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", source)


def test_no_number_is_printed_as_nan_and_every_gap_has_its_reason(page, source):
    assert not re.search(r"\bnan\b", source, re.IGNORECASE)
    rows = page.table("correct (higher is better) by subgroup")
    gaps = [row for row in rows if row["Value"] == DASH]
    assert gaps
    assert all(row["Note"] == "fewer than 10 patients: not shown" for row in gaps)
    assert all(row["Patients"] == "<10" and row["Cases"] == DASH for row in gaps)


@pytest.mark.parametrize("metric", ["correct", "dice", "volume_error", "finding", "Certificates"])
def test_every_number_of_the_overall_tables_has_interval_patients_and_method(page, metric):
    rows = page.table(metric)
    assert len(rows) >= 5
    for row in rows:
        assert NUMBER.match(row["Value"]), row
        assert INTERVAL.match(row["95% interval"]), row
        assert int(row["Patients"]) >= 10
        assert row["Interval by"] != DASH
        low, high = (float(limit) for limit in row["95% interval"][1:-1].split(","))
        assert low <= float(row["Value"]) <= high


def test_printed_values_are_those_of_the_table_of_estimates(page, run):
    table = run.estimates
    rows = page.table("dice (higher is better), all")
    for row in rows:
        chosen = (table["probe"] == row["Probe"]) & (table["metric"] == "dice")
        known = table[chosen & (table["subgroup"] == "")].iloc[0]
        assert abs(float(row["Value"]) - known["value"]) <= 0.0005
        assert int(row["Patients"]) == known["patients"]
        assert int(row["Undefined"]) == known["undefined"]
        assert int(row["Failed"]) == known["failed"]


def test_every_figure_is_well_formed_described_and_followed_by_its_numbers(page, source):
    drawings = re.findall(r"<svg.*?</svg>", source, re.DOTALL)
    assert len(drawings) > 30
    for drawing in drawings:
        ET.fromstring(drawing)  # noqa: S314 (our own)
    labels = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(labels) == len(drawings)
    assert all(len(label) > 20 for label in labels)
    kinds = [tag for tag, _ in page.tags if tag in ("figure", "table", "section")]
    after = [kinds[i + 1] for i, tag in enumerate(kinds) if tag == "figure"]
    assert set(after) == {"table"}


def test_the_page_stays_small_though_it_has_many_figures(source):
    assert len(source.encode()) < 2_500_000


def test_numbers_are_folded_away_but_every_table_can_be_opened_without_a_script(page):
    opened = [i for i, (tag, _) in enumerate(page.tags) if tag == "details"]
    assert all(page.tags[i + 1][0] == "summary" for i in opened)
    folds = sum(attrs.get("class") == "fold" for tag, attrs in page.tags if tag == "details")
    assert len(page.tables) / 2 < folds < len(page.tables)


def test_a_group_too_small_to_be_shown_has_no_number_in_any_table(page, run):
    table = run.estimates
    patients = table[table["subgroup"] != ""].groupby(["subgroup", "group"])["patients"].max()
    hidden = {label(g, 40) for (s, g), n in patients.items() if n < 10 and s == "site"}
    assert len(hidden) > 3
    for caption, (_, *body) in zip(page.captions, page.tables, strict=True):
        for row in body:
            if row[0].removeprefix("site: ") in hidden:
                shown = [cell for cell in row[1:] if re.search(r"\d", cell)]
                allowed = {"<10", "fewer than 10 patients: not shown"}
                assert {*shown} <= allowed | {row[1]}, (caption, row)


def test_ids_are_unique_and_references_lead_somewhere(page, source):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', source))
    assert wanted <= set(ids)


def test_tables_have_captions_headings_with_scope_and_even_rows(page):
    assert all(page.captions)
    scopes = [attrs.get("scope") for tag, attrs in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    for rows in page.tables:
        assert {len(row) for row in rows} <= {len(rows[0]), 1}


def test_no_id_of_a_case_or_patient_is_in_any_report(run, source):
    texts = [(run.folder / name).read_text() for name in ("summary.md", "junit.xml")]
    for text in (source, *texts):
        assert not re.search(r"case-\d{3}|\bP\d{3}\b", text)


def test_the_verdict_stands_in_words_and_not_only_in_colour(page):
    text = "".join(page.texts)
    assert "UNDECIDED: the evidence does not settle every blocking rule (1 result waived)" in text
    rows = page.table("Rules of the policy")
    assert {row["Verdict"].split()[-1] for row in rows} == {"pass", "undecided", "waived"}


def test_undecided_certificates_are_not_called_attackable_nor_attacks_a_guarantee(page):
    text = " ".join("".join(page.texts).split())
    assert "That does not mean that it can be attacked" in text
    assert "the harm is no less than shown" in text


def changed(run, folder, **manifest):
    """A copy of the run with another manifest."""
    shutil.copytree(run.folder, folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | manifest), encoding="utf-8")
    return Run.open(folder)


def test_a_run_that_failed_is_marked_as_no_evidence(run, tmp_path):
    failed = changed(run, tmp_path / "failed", state="failed", subgroups=[], probes=[])
    shown = " ".join("".join(Page(render_html(Evidence.of(failed))).texts).split())
    assert 'NOT EVIDENCE: this run ended in the state "failed"' in shown
    assert "NOT JUDGED" in shown


def test_a_cohort_too_small_to_show_anything_is_rendered_without_a_single_value(tmp_path):
    tiny = FIXTURE["make_run"](tmp_path / "tiny", patients=6, policy=None)
    page = Page(render_html(Evidence.of(tiny)))
    for metric in ("correct", "dice", "volume_error"):
        assert {row["Value"] for row in page.table(metric)} == {DASH}

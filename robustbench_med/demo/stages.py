"""The demonstration's figures over all patients, with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_med.clinical import UNITS
from robustbench_med.demo.examples import Example
from robustbench_med.reports.believed import with_word
from robustbench_med.reports.document import Table
from robustbench_med.reports.wording import DASH, count, interval, number
from robustbench_med.runfolder import Run

STAGES = (
    ("Reconstruction", "demo-reconstruction", "deep_cascade"),
    ("Reconstruction", "demo-total-variation", "total_variation"),
    ("Super-resolution", "demo-super-resolution", "espcn"),
    ("Super-resolution", "demo-interpolation", "interpolation"),
    ("Segmentation", "demo-segmentation", "unet"),
    ("Classification", "demo-classification", "lenet"),
)
MEASURES = ("lvedv", "lvesv", "lvef", "lvm", "rvef")
COLUMNS = ("Stage", "System", "Metric", "Probe", "Value", "95% interval", "Patients")


def stages_tables(runs: Mapping[str, Run]) -> tuple[Table, ...]:
    """Each stage on clean images, then under attacks, shifts and proofs."""
    clean, stressed = [], []
    for stage, name, system in STAGES:
        for row in _overall(runs[name]):
            if row.probe.startswith("worst["):  # one attack a ball: the same once more
                continue
            line = (stage, system, row.metric, with_word(row.probe, row.validity), *_cells(row))
            if row.kind == "clean":
                clean.append(line)
            elif row.metric in _main_metrics(name):
                stressed.append(line)
    return (
        Table("Every stage as it is", COLUMNS, tuple(clean)),
        Table("The same under attacks, shifts and proofs", COLUMNS, tuple(stressed)),
    )


def enlarged_table(runs: Mapping[str, Run]) -> Table:
    """How near both ways of enlarging come to the truth."""
    columns = ("System", "Metric", "Value", "95% interval", "Patients")
    rows = tuple(
        (system, row.metric, *_cells(row))
        for stage, name, system in STAGES
        if stage == "Super-resolution"
        for row in _overall(runs[name])
        if row.kind == "clean"
    )
    return Table("Enlarged stacks against the truth, all patients", columns, rows)


def measures_table(chain: Run) -> tuple[Table, ...]:
    """Error of each clinical measure, and agreement of the diagnosis, under every probe."""
    columns = ("Probe", "Measure", "Unit", "Value", "95% interval", "Patients")
    errors, classes = [], []
    for row in _overall(chain):
        probe = with_word(row.probe, row.validity)
        if row.metric in MEASURES:
            errors.append((probe, row.metric.upper(), UNITS[row.metric], *_cells(row)))
        elif row.metric == "diagnosis":
            classes.append((probe, "same class as the truth", "share", *_cells(row)))
    return (
        Table("Mean error of a measure: predicted minus true", columns, tuple(errors)),
        Table("Patients whose labels give the class that the true labels give", columns,
              tuple(classes)),
    )  # fmt: skip


def patients_table(examples: Sequence[Example]) -> Table:
    """Measured and true values of the patients shown."""
    columns = ("Class", *(f"{name.upper()}, {UNITS[name]}" for name in MEASURES))
    rows = tuple(
        (
            example.truth,
            *(
                f"{number(getattr(example.measured, name))} ({number(getattr(example.true, name))})"
                for name in MEASURES
            ),
        )
        for example in examples
    )
    return Table("Measured, and in brackets true, values of these patients", columns, rows)


def _main_metrics(name: str) -> tuple[str, ...]:
    if name == "demo-segmentation":
        return ("dice_lv",)
    return ("correct", "certified") if name == "demo-classification" else ("ssim",)


def _overall(run: Run) -> list[Any]:
    table = run.estimates
    return list(table[table["subgroup"] == ""].itertuples())


def _cells(row: Any) -> tuple[str, str, str]:  # noqa: ANN401 (a row of the table)
    if row.status == "suppressed":
        return DASH, DASH, count(row.patients)
    return number(row.value), interval(row.low, row.high), count(row.patients)

"""The demonstration's one page: every stage of the chain, its figures, and five patients."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import robustbench_med
from robustbench_med.demo.examples import Example, Image
from robustbench_med.demo.pictures import enlarged_figure, patients_figure
from robustbench_med.demo.stages import (
    enlarged_table,
    measures_table,
    patients_table,
    stages_tables,
)
from robustbench_med.reports.document import Section
from robustbench_med.reports.html import HERE, environment, stylesheet
from robustbench_med.runfolder import Run, write_text

INTRODUCTION = (
    "A scanner measures k-space; a quarter of its lines are acquired. A network reconstructs the "
    "image (deep_cascade), another one segments it (unet), the labels are measured, and the "
    "rules of the ACDC challenge turn the measures into a diagnosis. Two further tasks start "
    "from the same k-space: super-resolution of thick slices (espcn), and a diagnosis straight "
    "from six slices (lenet). All networks are small and were trained on other simulated "
    "patients; total variation and linear interpolation are the classical baselines."
)
LIMITS = (
    "Anatomy, physics and noise are simulated, so true volumes and diagnoses are known exactly. "
    "What the simulation cannot stand for is listed in docs/synthetic_cine.md: above all the "
    "variety of real anatomy, through-plane motion, and the scanners of any real maker."
)
READING = (
    "Intervals are 95 %, over patients. An attacked value shows harm that was found, no more; "
    "how each number was made is in the methods of the full reports."
)


def write_page(
    path: Path, runs: Sequence[Run], examples: Sequence[Example], enlarged: Mapping[str, Image]
) -> None:
    """Write the page from finished runs, and patients that were put through the chain.

    Args:
        path: Where; the runs' folders lie beside it.
        runs: Of all stages.
        examples: One patient of each class.
        enlarged: A slice as each way of super-resolution sees it.
    """
    by_name = {run.folder.name: run for run in runs}
    html = (
        environment(HERE, Path(__file__).parent)
        .get_template("chain.html.jinja")
        .render(
            css=stylesheet(),
            facts=_facts(by_name["demo-chain"]),
            sections=_sections(by_name, examples, enlarged),
            runs=list(by_name),
            version=robustbench_med.__version__,
        )
    )
    write_text(path, html)


def digest_of_runs(runs: Sequence[Run]) -> str:
    """What the page depends on, as one text: the runs' own digests and finishing times."""
    facts = [(run.folder.name, run.manifest["digests"], run.manifest["finished"]) for run in runs]
    return json.dumps(facts, sort_keys=True)


def _sections(
    runs: Mapping[str, Run], examples: Sequence[Example], enlarged: Mapping[str, Image]
) -> tuple[Section, ...]:
    chain = runs["demo-chain"]
    return (
        Section("chain", "The chain, patient by patient", (INTRODUCTION,),
                (patients_figure(examples),), (patients_table(examples),)),
        Section("stages", "The stages, over all patients", (),
                (enlarged_figure(enlarged, enlarged_table(runs)),),
                stages_tables(runs)),
        Section("measures", "What the chain does to clinical measures", (), (),
                measures_table(chain)),
        Section("limits", "What this does not show", (LIMITS, READING)),
    )  # fmt: skip


def _facts(run: Run) -> str:
    cohort = run.manifest["cohort"]
    return (
        f"{cohort['patients']} simulated test patients of five classes, 64 x 64 pixels of 2.4 mm, "
        f"four-fold undersampling. Finished {run.manifest['finished']}, "
        f"seed {run.manifest['seed']}."
    )

"""Carry out a plan: cohort, model, cells, estimates, reports, all into one run folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from robustbench_med.engine.cells import Inquiry
from robustbench_med.engine.local import Effort, OnProgress, Progress, compute
from robustbench_med.engine.store import is_stored, merge, prune
from robustbench_med.errors import IncompleteError, InputError, IntegrityError
from robustbench_med.ledger import check_ledger, look
from robustbench_med.manifest import begin_manifest, now, with_end
from robustbench_med.panels import judge_attacks, panels_stored
from robustbench_med.plan import Plan
from robustbench_med.preparing import Prepared, audit_splits, prepare
from robustbench_med.proofs.certificate_files import digest_of_all
from robustbench_med.runfolder import (
    CERTIFICATES,
    Run,
    file_digest,
    intact,
    write_json,
    write_table,
)
from robustbench_med.survey import case_table

if TYPE_CHECKING:
    import pandas as pd


TABLES = (
    "cases.parquet", "records.parquet", "failures.parquet", "estimates.parquet", "gaps.parquet",
    "search.parquet",
)  # fmt: skip
WRITTEN = (*TABLES, "report.html", "summary.md", "junit.xml")


def run_plan(plan: Plan, folder: str | Path, *, on_progress: OnProgress | None = None) -> Run:
    """Carry out `plan` in the run folder `folder`, continuing what is there already.

    Args:
        plan: From `load_plan`.
        folder: Made if it is not there.
        on_progress: Called after each batch.

    Returns:
        The finished run, with its estimates and reports.

    Raises:
        InputError: If the input is wrong, or the folder belongs to another plan.
        IntegrityError: If a proof and an attack contradict each other.
        IncompleteError: If it was interrupted, or more answers failed than the plan allows.
    """
    run = Run(Path(folder))
    _refuse_another(run, plan)
    prepared = prepare(plan)
    known = [cell for cell in prepared.cells if is_stored(run.cells_folder, cell)]
    tables = merge(run.cells_folder, known)[:2]  # a damaged cell ends it before anything changes
    if len(known) == len(prepared.cells) and _is_current(run, prepared, tables):
        return Run.open(folder)
    check_ledger(run)
    manifest = begin_manifest(prepared, run, len(known))
    write_json(run.manifest_path, manifest)
    split = str(plan.cohort.settings.get("split", "all"))
    write_table(run.folder / "cases.parquet", case_table(prepared.summaries, split))
    started = time.perf_counter()
    try:
        manifest["split"] = manifest["split"] or audit_splits(prepared, on_progress or _silent)
        write_json(run.manifest_path, manifest)
        _compute(prepared, run, on_progress or _silent)
        manifest["validity"] = judge_attacks(prepared, run, on_progress or _silent)
    except BaseException as error:
        write_json(run.manifest_path, manifest | {"state": "interrupted"})
        if isinstance(error, KeyboardInterrupt):
            raise IncompleteError(_interrupted(prepared, run)) from None
        raise
    return _finish(prepared, run, manifest, time.perf_counter() - started)


def _is_current(run: Run, prepared: Prepared, tables: Sequence[pa.Table]) -> bool:
    """Whether the folder already holds all that this plan, model and cohort would give.

    Args:
        run: Its folder.
        prepared: The plan and all it names, whose cells are all stored.
        tables: Records and failures of those cells.
    """
    if not run.manifest_path.is_file():
        return False
    there = Run.open(run.folder).manifest
    begun = begin_manifest(prepared, run, len(prepared.cells))
    same = all(there.get(part) == begun[part] for part in ("plan_digest", "digests", "policy"))
    same = same and _fixed(there) == _fixed(begun)
    written = all((run.folder / name).is_file() for name in WRITTEN)
    written = written and panels_stored(prepared, run)
    if not (same and written and there["state"] == "complete"):
        return False
    files = {name: file_digest(run.folder / name) for name in TABLES}
    proofs = _certificates(prepared, run) == there.get("certificates")
    return proofs and files == there.get("files") and _holds(run, tables)


def _certificates(prepared: Prepared, run: Run) -> dict[str, Any]:
    """What tells that certificates are the run's: all of them, unaltered, of its model."""
    model = getattr(prepared.model, "digest", None)
    return {**digest_of_all(run.folder / CERTIFICATES), "model": model}


def _fixed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Thresholds by metric: the model's card may have changed where the model did not."""
    return {name: entry.get("threshold") for name, entry in manifest["metrics"].items()}


def _holds(run: Run, tables: Sequence[pa.Table]) -> bool:
    """Whether the folder's records and failures can be read and are those of its cells."""
    stored = [intact(run.folder / name) for name in ("records.parquet", "failures.parquet")]
    # As data frames, because two Arrow tables with NaN in them never equal.
    pairs = zip(stored, tables, strict=True)
    return all(old is not None and old.to_pandas().equals(new.to_pandas()) for old, new in pairs)


def _compute(prepared: Prepared, run: Run, on_progress: Callable[[Progress], None]) -> None:
    compute(
        prepared.model,
        prepared.cohort,
        prepared.cells,
        run.cells_folder,
        Effort(prepared.plan.seed, prepared.plan.batch_size),
        on_progress,
    )


def _finish(prepared: Prepared, run: Run, manifest: dict[str, Any], seconds: float) -> Run:
    from robustbench_med.reports.writer import write_reports
    from robustbench_med.statistics.contradicted_counts import contradicted_counts
    from robustbench_med.statistics.contradiction import contradictions

    records, failures, spent = merge(run.cells_folder, prepared.cells)
    write_table(run.folder / "records.parquet", records)
    write_table(run.folder / "failures.parquet", failures)
    prune(run.cells_folder, prepared.cells)
    table = records.to_pandas()
    found = [*contradictions(table, manifest), *contradicted_counts(table, manifest)]
    broken = failed_share(failures.to_pandas(), prepared.inquiries)
    limit = prepared.plan.failure_limit
    state = "contradiction" if found else "failed" if broken > limit else "complete"
    manifest = with_end(manifest, state, failures.num_rows, spent, seconds)
    manifest["looks"] = asdict(look(run, manifest, manifest["finished"]))
    _estimate(run, records, failures, manifest)
    manifest["files"] = {name: file_digest(run.folder / name) for name in TABLES}
    manifest["certificates"] = _certificates(prepared, run)
    write_json(run.manifest_path, manifest)
    done = Run.open(run.folder)
    write_reports(done)
    if found:
        raise IntegrityError("\n".join(found))
    if state == "failed":
        raise IncompleteError(
            f"run {run.folder}: {broken:.1%} of all answers failed, over the limit of {limit:.1%}; "
            f"see {run.folder / 'failures.parquet'} and report.html"
        )
    return done


def _estimate(run: Run, records: pa.Table, failures: pa.Table, manifest: Mapping[str, Any]) -> None:
    """Write every table that statistics makes of the records."""
    from robustbench_med.statistics.tables import tables_of

    cases = Run(run.folder).cases
    made = tables_of(records.to_pandas(), cases, failures.to_pandas(), manifest)
    for name, table in made.items():
        write_table(run.folder / name, table)


def failed_share(failures: "pd.DataFrame", inquiries: Sequence[Inquiry]) -> float:
    """Share of failed answers among all; what a component does not support is no failure."""
    asked = sum(len(inquiry.indices) for inquiry in inquiries)
    return float((failures["error"] != "UnsupportedError").sum()) / asked


def _refuse_another(run: Run, plan: Plan) -> None:
    if not run.manifest_path.is_file():
        return
    there = Run.open(run.folder).manifest
    old, new = there["plan"]["cohort"], plan.raw["cohort"]
    pairs = [("name", there["name"], plan.name)]
    pairs += [(f"cohort's {key}", old.get(key), new.get(key)) for key in {**old, **new}]
    for what, was, now_is in pairs:
        if was != now_is:
            raise InputError(f"run {run.folder}: belongs to another plan: its {what} is {was!r}, "
                             f"this plan's is {now_is!r}; give another folder")  # fmt: skip


def _interrupted(prepared: Prepared, run: Run) -> str:
    done = sum(is_stored(run.cells_folder, cell) for cell in prepared.cells)
    return (
        f"interrupted at {now()}: {done} of {len(prepared.cells)} cells are stored in "
        f"{run.folder}; the same command continues"
    )


def _silent(progress: Progress) -> None:
    del progress

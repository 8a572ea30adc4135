"""A cohort kept as one CSV beside its image files."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from robustbench_med.cases import Cohort, TaskKind
from robustbench_med.cohorts.attribute import numeric_columns
from robustbench_med.cohorts.entry import Layout, read_layout
from robustbench_med.cohorts.found import Found, contradictions
from robustbench_med.cohorts.grid import Fit
from robustbench_med.cohorts.labels import Labels
from robustbench_med.cohorts.lazy import FolderCases, Place, places_of
from robustbench_med.cohorts.pixels import Colour
from robustbench_med.cohorts.problems import attempt, refuse
from robustbench_med.cohorts.reader import Reader, VolumeRule, read_reader
from robustbench_med.cohorts.selection import Selection, read_selection
from robustbench_med.cohorts.table import Row, Table, Where, kept, read_table
from robustbench_med.errors import InputError

INTENSITIES = (0.0, 1.0)


def load_folder(  # noqa: PLR0913 (each is a key of the plan's cohort table)
    *,
    folder: str,
    task: TaskKind,
    columns: Mapping[str, str | Sequence[str]],
    table: str = "cases.csv",
    labels: Labels | None = None,
    attributes: Sequence[str] = (),
    bands: Mapping[str, Mapping[str, object]] | None = None,
    of_patient: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
    fit: Fit = "resize",
    colour: Colour = "grey",
    volume: VolumeRule = "whole",
    axes: str | None = None,
    intensity: str | Sequence[float] = "dtype",
    splits: Mapping[str, object] | None = None,
    split: str | None = None,
    where: Where | None = None,
    name: str | None = None,
) -> Cohort:
    """Read a CSV and the PNG, JPEG, NIfTI or `.npy` files it names, as `docs/folder.md` shows.

    Args:
        folder: Where the files are; the paths in the table start here.
        task: `classification`, `multilabel`, `regression` or `segmentation`.
        columns: Names of the columns for `case`, `patient`, `image` and `target`.
        table: The CSV, in the folder or anywhere by its absolute path.
        labels: Class names, in order, with their stored values; or `acdc`, `mnms`, `ukbb`.
        attributes: Columns that are kept with the cases.
        bands: Attributes made from a number or an age, each with `column` and `edges`.
        of_patient: Attributes in which a patient's cases may not differ; None for `OF_PATIENT`.
        size: Rows and columns given to the model; None for those stored.
        fit: `resize` or `crop`.
        colour: `grey` or `rgb`, of PNG and JPEG images.
        volume: `whole`, or `slices` for one case per z.
        axes: Order of the stored axes of NIfTI (`xyz`) and `.npy` (`zyx`) files.
        intensity: What becomes [0, 1]: `dtype`, `case`, or `[low, high]`.
        splits: A column, shares of the patients, or two sides by an attribute.
        split: The one to load; None for all cases.
        where: Per column the values a row must have; `"*"` for any that is not empty.
        name: Of the cohort; None for the folder's.

    Raises:
        InputError: With a line per mistake in the settings, or else in table and files.
    """
    problems: list[str] = []
    root = Path(str(folder))
    listing = attempt(problems, lambda: read_table(root / str(table)))
    known, grid, words = (attributes, bands, of_patient), (size, fit), (colour, volume)
    layout = attempt(problems, lambda: read_layout(root, columns, (task, labels), known))
    schema = layout.mask_schema if layout is not None else None
    reader = attempt(problems, lambda: read_reader(schema, intensity, grid, axes, words))
    selection = attempt(problems, lambda: read_selection(where, splits, split))
    if listing is not None and layout is not None and selection is not None:
        problems += selection.unknown(listing, layout.asked(), layout.wanted.bands)
    if listing is None or layout is None or reader is None or selection is None or problems:
        raise InputError("\n".join(problems))
    cases = FolderCases(layout.task, reader, _places(listing, layout, reader, selection))
    return Cohort(name or root.resolve().name, layout.task, INTENSITIES, cases)


def _places(
    listing: Table, layout: Layout, reader: Reader, selection: Selection
) -> tuple[Place, ...]:
    problems: list[str] = []
    found = _found(listing, layout, kept(listing, selection.where), problems)
    chosen = selection.of(listing, found, problems)
    problems += contradictions(listing, found, layout.wanted.of_patient)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        looked = list(pool.map(partial(_look, listing, reader), chosen))
    for _, lines in looked:
        problems += lines
    refuse(problems)
    return tuple(place for places, _ in looked for place in places)


def _found(listing: Table, layout: Layout, rows: Sequence[Row], problems: list[str]) -> list[Found]:
    numeric = numeric_columns(listing, layout.wanted.columns)
    found = []
    for row in rows:
        where = f"{listing.place(row)}: "
        entry = attempt(problems, partial(layout.entry, row, numeric), where)
        if entry is not None:
            found.append(Found(row, entry))
    return found


def _look(listing: Table, reader: Reader, found: Found) -> tuple[list[Place], list[str]]:
    """Decode a case's files once: its places, and what is wrong with them."""
    problems: list[str] = []
    where = f"{listing.place(found.row)}: case {found.entry.case_id!r}: "
    places = attempt(problems, partial(places_of, found.entry, reader), where)
    return places or [], problems

"""The embedded cohort: simulated cardiac MR of patients whose truth is known."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Literal, get_args

from robustbench_med.cases import Cohort
from robustbench_med.cohorts.by_split import of_split
from robustbench_med.cohorts.chosen import choose
from robustbench_med.cohorts.cine_cases import CineCases
from robustbench_med.cohorts.cine_chain import ChainView
from robustbench_med.cohorts.cine_frame import Papillary, View
from robustbench_med.cohorts.cine_patient import ClassificationView, PatientView
from robustbench_med.cohorts.cine_reconstruction import ReconstructionView
from robustbench_med.cohorts.cine_segmentation import SegmentationView
from robustbench_med.cohorts.cine_super_resolution import SuperResolutionView
from robustbench_med.cohorts.dynamic_cine import DynamicView
from robustbench_med.cohorts.kspace_cine import DrawnLines, KspaceSegmentationView
from robustbench_med.cohorts.quota import Quota, read_quota
from robustbench_med.cohorts.torso_cine import TorsoView
from robustbench_med.components import suggest
from robustbench_med.errors import InputError, raise_together
from robustbench_med.physics.acdc import CLASSES
from robustbench_med.physics.patient import ANCESTRIES
from robustbench_med.physics.population import Kind, Population, Split
from robustbench_med.physics.rendering import Grid
from robustbench_med.physics.scanner import FIELDS, VENDORS

CineTask = Literal[
    "segmentation", "classification", "reconstruction", "super_resolution", "patient", "chain",
    "kspace_segmentation", "dynamic", "torso",
]  # fmt: skip
Asked = Mapping[str, float] | Sequence[str]
SEXES = ("F", "M")
LEAST = {"frames": 2, "centre_lines": 0, "seed": 0}  # and 1 of every other count
COUNTS = ("slices", "frames", "coils", "centre_lines", "strip")
MEASURED = ("reconstruction", "chain", "kspace_segmentation", "dynamic")
USED_BY = {
    "slices": ("segmentation", "classification", "reconstruction", "super_resolution",
               "kspace_segmentation", "dynamic", "torso"),
    "frames": ("segmentation", "reconstruction", "kspace_segmentation", "dynamic"),
    "strip": ("dynamic",),
    **dict.fromkeys(("coils", "acceleration", "centre_lines", "lines"), MEASURED),
}  # fmt: skip
CYCLE = 12  # frames of `dynamic`
DIAGNOSED = ("classification", "patient", "chain")


@dataclass(frozen=True)
class _Words:
    """What is asked of each task beside who is drawn and on which grid."""

    slices: int | None
    frames: int | None
    coils: int
    acceleration: float
    centre_lines: int
    lines: int | Sequence[int] | None
    strip: int | None
    papillary: Papillary

    def measured(self, grid: Grid, slices: int | None, frames: int) -> ReconstructionView:
        """How k-space is measured."""
        _check_lines(grid.height, self.acceleration, self.centre_lines)
        return ReconstructionView(
            grid, slices, frames, self.coils, self.acceleration, self.centre_lines
        )


def synthetic_cine(  # noqa: PLR0913 (each is a key of the plan's cohort table)
    *,
    task: CineTask = "segmentation",
    patients: int | Mapping[str, int] = 80,
    split: Split = "test",
    population: Kind | None = None,
    seed: int = 0,
    size: int | Sequence[int] = 96,
    pixel_mm: float = 2.0,
    vendors: Sequence[str] | Mapping[str, Sequence[str]] = tuple(VENDORS),
    fields: Sequence[float] | Mapping[str, Sequence[float]] = FIELDS,
    classes: Sequence[str] = CLASSES,
    sexes: Asked | Mapping[str, Asked] | None = None,
    ancestries: Asked | Mapping[str, Asked] | None = None,
    slices: int | None = None,
    frames: int | None = None,
    coils: int = 1,
    acceleration: float = 4.0,
    centre_lines: int = 8,
    lines: int | Sequence[int] | None = None,
    strip: int | None = None,
    papillary: Papillary = "cavity",
    memory_mb: float = 256,
) -> Cohort:
    """Simulate patients and make the cases of one task of them, as docs/synthetic_cine.md tells.

    Args:
        task: What is asked; `patient` and `chain` are whole patients, as images and as k-space.
        patients: How many; or how many by split.
        split: `train`, `validation` or `test`; no patient is in two.
        population: `normal` or `acdc`; None for `acdc` where diagnoses are asked.
        seed: Of all draws.
        size: Rows and columns, or both in one number.
        pixel_mm: Edge of a pixel.
        vendors: Some of `A` to `D`, or some by split, as are the next one's.
        fields: Some of 0.55, 1.5 and 3 tesla.
        classes: Some of `NOR`, `MINF`, `DCM`, `HCM`, `RV`, of the population `acdc`.
        sexes: Share of the patients by sex, `F` and `M`; or shares by split. None: as drawn.
        ancestries: Likewise, of `group 1` to `group 3`.
        slices: Per patient and moment; None for all, and for 3 in `classification`.
        frames: 2 for end-diastole and -systole; more over the cycle. None: 2, 12 in `dynamic`.
        coils: Of k-space, as are the next three.
        acceleration: Lines over lines acquired.
        centre_lines: Always acquired.
        lines: Acquired, in place of `acceleration`; several to draw from for each case.
        strip: Columns of a case of `dynamic`; None for all.
        papillary: Whether the papillary muscles count as `cavity` or as `mass`.
        memory_mb: Limit on the cases kept.

    Raises:
        InputError: If any is out of range.
    """
    kind = _kind(task, papillary, population)
    words = _Words(slices, frames, coils, acceleration, centre_lines, lines, strip, papillary)
    _check(task, words, seed=seed, pixel_mm=pixel_mm, memory_mb=memory_mb)
    who = _population(kind, split, seed, classes, vendors=vendors, fields=fields)
    view = _view(task, _grid(size, pixel_mm), words)
    make = partial(CineCases, who, view=view, papillary=papillary, memory_mb=memory_mb)
    cases = choose(make, who, view, _count(patients, split), _quotas(split, sexes, ancestries))
    return Cohort(f"synthetic_cine {kind} {task}", view.task, view.bounds, cases)


def _population(
    kind: Kind,
    split: Split,
    seed: int,
    classes: Sequence[str],
    *,
    vendors: Sequence[str] | Mapping[str, Sequence[str]],
    fields: Sequence[float] | Mapping[str, Sequence[float]],
) -> Population:
    own = of_split("vendors", vendors, split), of_split("fields", fields, split)
    return Population(kind, split, seed, *own, classes)


def _view(task: CineTask, grid: Grid, words: _Words) -> View:
    """What is made of a patient; with several numbers of `lines`, one of them for each case."""
    if words.lines is None:
        return _view_of(task, grid, words)
    counts = _line_counts(words, grid.height)
    of_each = [
        replace(words, acceleration=grid.height / n, centre_lines=min(n, words.centre_lines))
        for n in counts
    ]
    views = tuple(_view_of(task, grid, words) for words in of_each)
    return views[0] if len(views) == 1 else DrawnLines(counts, views)


def _view_of(task: CineTask, grid: Grid, words: _Words) -> View:
    view: View
    match task:
        case "segmentation":
            view = SegmentationView(grid, words.papillary, words.slices, words.frames or 2)
        case "classification":
            view = ClassificationView(grid, words.slices or 3)
        case "super_resolution":
            view = SuperResolutionView(grid, words.slices)
        case "patient":
            view = PatientView(grid, words.papillary)
        case "torso":
            view = TorsoView(grid, words.slices)
        case _:
            view = _kspace_view(task, grid, words)
    return view


def _kspace_view(task: CineTask, grid: Grid, words: _Words) -> View:
    if task == "chain":
        return ChainView(words.measured(grid, None, 2), words.papillary)
    frames = words.frames or (CYCLE if task == "dynamic" else 2)
    measured = words.measured(grid, words.slices, frames)
    if task == "dynamic":
        return DynamicView(measured, words.strip)
    if task == "kspace_segmentation":
        return KspaceSegmentationView(measured, words.papillary)
    return measured


def _kind(task: str, papillary: str, population: Kind | None) -> Kind:
    """The population that is asked for, or the task's; refused if a word has no meaning."""
    problems = []
    if task not in get_args(CineTask):
        problems.append(f"no task {task!r}; {suggest(str(task), get_args(CineTask))}")
    if papillary not in get_args(Papillary):
        problems.append(f"papillary: expected cavity or mass, got {papillary!r}")
    if task == "classification" and population == "normal":
        problems.append("classification needs population 'acdc', got 'normal'")
    raise_together([f"synthetic_cine: {problem}" for problem in problems])
    return population or ("acdc" if task in DIAGNOSED else "normal")


def _check(task: CineTask, words: _Words, *, seed: int, pixel_mm: float, memory_mb: float) -> None:
    """Refuse what is out of range, and a setting that the task would silently leave unused."""
    settings = vars(words)
    counts = {name: settings[name] for name in COUNTS}
    _check_counts(**counts, seed=seed)
    _check_numbers(acceleration=words.acceleration, pixel_mm=pixel_mm, memory_mb=memory_mb)
    defaults = inspect.signature(synthetic_cine).parameters
    raise_together([
        f"synthetic_cine: {name}: the task {task!r} does not use it, only {_listed(users)}"
        for name, users in USED_BY.items()
        if task not in users and settings[name] != defaults[name].default
    ])  # fmt: skip


def _listed(words: Sequence[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def _line_counts(words: _Words, rows: int) -> tuple[int, ...]:
    asked = words.lines
    counts = tuple(asked) if isinstance(asked, Sequence) else (asked,)
    whole = tuple(n for n in counts if type(n) is int and 1 <= n <= rows)
    if not whole or len(set(whole)) < len(counts):
        raise InputError(
            f"synthetic_cine: lines: expected a number from 1 to {rows}, or several, each once, "
            f"got {asked!r}"
        )
    if words.acceleration != inspect.signature(synthetic_cine).parameters["acceleration"].default:
        raise InputError("synthetic_cine: lines and acceleration are given; keep one of the two")
    return whole


def _check_lines(lines: int, acceleration: float, centre_lines: int) -> None:
    """Refuse an acceleration that leaves no room for the centre, with one that does."""
    most = lines / max(centre_lines, 1)
    if centre_lines <= lines and not 1 <= acceleration <= most:
        raise InputError(
            f"synthetic_cine: acceleration: expected 1 to {most:.4g} of {lines} lines with "
            f"centre_lines = {centre_lines}, got {acceleration:g}"
        )


def _check_counts(**counts: int | None) -> None:
    problems = []
    for name, value in counts.items():
        least = LEAST.get(name, 1)
        if value is not None and (type(value) is not int or value < least):
            problems.append(f"{name}: expected a whole number, at least {least}, got {value!r}")
    raise_together([f"synthetic_cine: {problem}" for problem in problems])


def _check_numbers(**numbers: float) -> None:
    problems = [
        f"{name}: expected a number, at least 0, got {value!r}"
        for name, value in numbers.items()
        if type(value) not in (int, float) or not 0 <= value < inf
    ]
    raise_together([f"synthetic_cine: {problem}" for problem in problems])


def _count(patients: int | Mapping[str, int], split: str) -> int:
    count: object = patients.get(split) if isinstance(patients, Mapping) else patients
    if count is None:
        raise InputError(f"synthetic_cine: patients: no number for the split {split!r}")
    if type(count) is not int or count < 1:
        raise InputError(f"synthetic_cine: patients: expected at least 1, got {count!r}")
    return count


def _quotas(split: str, sexes: object, ancestries: object) -> list[Quota]:
    by_sex, by_ancestry = of_split("sexes", sexes, split), of_split("ancestries", ancestries, split)
    return [
        *read_quota("sexes", "sex", SEXES, by_sex),
        *read_quota("ancestries", "ancestry", ANCESTRIES, by_ancestry),
    ]


def _grid(size: int | Sequence[int], pixel_mm: float) -> Grid:
    both = list(size) if isinstance(size, Sequence) else [size, size]
    if len(both) != 2 or not all(type(length) is int and length > 0 for length in both):
        raise InputError(f"synthetic_cine: size: expected rows and columns, got {size!r}")
    if pixel_mm == 0:
        raise InputError("synthetic_cine: pixel_mm: expected a number above 0, got 0")
    return Grid(both[0], both[1], float(pixel_mm))

"""Images and patients of a test split that the training split has too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustbench_med.cases import Cohort
from robustbench_med.overlap.calibration import Calibration, Match, best_of, calibrate
from robustbench_med.overlap.fingerprint import Whitening
from robustbench_med.overlap.picture import TURNS
from robustbench_med.overlap.seen import OnProgress, Seen, look, owners, pictures, silent
from robustbench_med.overlap.shortlist import Base, Indices, Shortlist, shortlist

Kind = Literal["patient", "identical", "near"]
PAIRS = 2000
"""The most alike pairs that are always compared in detail, however few are suspicious."""
CHUNK = 500


@dataclass(frozen=True)
class Leak:
    """A test case that the training split knows.

    Attributes:
        kind: `patient`: the same id in both splits; `identical`: the same values under another
            patient's id; `near`: a copy of another patient's image, changed.
        test: Id of the test case.
        train: Id of the training case; for a patient, the first one.
        likeness: Correlation of the details after registration; 1 where identical or the same
            patient, whose images are not compared.
        turned: How the test image lies: one of `TURNS`.
    """

    kind: Kind
    test: str
    train: str
    likeness: float = 1.0
    turned: str = TURNS[0]


@dataclass(frozen=True)
class Search:
    """What was found, and how surely it would have been.

    Attributes:
        leaks: At most one of a kind per test case.
        within: Pairs inside the test split, under different patient ids.
        calibration: Of "near".
        compared: Pairs that were laid on one another.
    """

    leaks: tuple[Leak, ...]
    within: tuple[Leak, ...]
    calibration: Calibration
    compared: int


def find_leaks(
    test: Cohort, train: Cohort, *, seed: int = 0, on_progress: OnProgress = silent
) -> tuple[Leak, ...]:
    """Find the test cases that the training split knows; see `search` for how surely."""
    seen = look(test, on_progress=on_progress), look(train, on_progress=on_progress)
    return search(*seen, seed=seed, on_progress=on_progress).leaks


def search(test: Seen, train: Seen, *, seed: int = 0, on_progress: OnProgress = silent) -> Search:
    """Compare every image of one split with every image of the other.

    First the fingerprints, exactly and under all eight turns; then, of each test image's three
    most alike training images, the details. Images of one patient are never compared.
    """
    mine, theirs = owners(test, train)
    whitening = Whitening.of(train.prints)
    base = Base.of(train.prints, theirs, whitening)
    rng = np.random.default_rng(seed)
    calibration = calibrate(train, base, 2 * len(test), rng, on_progress)
    exact = (*_same_patients(test, train), *_same_pixels(test, train))
    twins = _same_pixels(test, test)
    if calibration.reason:
        return Search(exact, _once(twins), calibration, 0)
    found = shortlist(test.prints, mine, base)
    near, compared = _near(test, train, found, calibration, on_progress)
    inside = shortlist(test.prints, mine, Base.of(test.prints, mine, whitening))
    doubles, again = _near(test, test, inside, calibration, on_progress)
    known = {leak.test for leak in exact if leak.kind == "identical"}
    within = _once((*twins, *doubles))
    leaks = (*exact, *(leak for leak in near if leak.test not in known))
    return Search(leaks, within, calibration, compared + again)


def _same_patients(test: Seen, train: Seen) -> Iterator[Leak]:
    first: dict[str, str] = {}
    for patient, case in zip(train.patient_ids, train.case_ids, strict=True):
        first.setdefault(patient, case)
    for patient, case in zip(test.patient_ids, test.case_ids, strict=True):
        if patient in first:
            yield Leak("patient", case, first[patient])


def _same_pixels(test: Seen, train: Seen) -> tuple[Leak, ...]:
    # two patients are enough to find one that is another
    holders: dict[str, dict[str, str]] = {}
    for pixels, patient, case in zip(train.pixels, train.patient_ids, train.case_ids, strict=True):
        held = holders.setdefault(pixels, {})
        if pixels and len(held) < 2:
            held.setdefault(patient, case)
    found = []
    for pixels, patient, case in zip(test.pixels, test.patient_ids, test.case_ids, strict=True):
        held = holders.get(pixels, {}) if pixels else {}
        other = next((known for owner, known in held.items() if owner != patient), None)
        if other is not None:
            found.append(Leak("identical", case, other))
    return tuple(found)


def _near(
    query: Seen, base: Seen, found: Shortlist, calibration: Calibration, on_progress: OnProgress
) -> tuple[list[Leak], int]:
    chosen = _suspicious(found, calibration.gate)
    pairs = int((found.likeness[chosen] > 0).sum())
    leaks = []
    for start in range(0, len(chosen), CHUNK):
        rows = chosen[start : start + CHUNK]
        mine = pictures(query, rows.tolist())
        near = pictures(base, found.place[rows].ravel().tolist())
        for row in rows.tolist():
            match = best_of(mine[row], found, row, near)
            if match.agreement >= calibration.limit:
                leaks.append(_leak(query, base, row, match))
        on_progress("comparing details", min(start + CHUNK, len(chosen)), len(chosen))
    return leaks, pairs


def _suspicious(found: Shortlist, gate: float) -> Indices:
    """Queries as alike as a planted copy, and the most alike others until there are enough."""
    top = found.likeness[:, 0] if found.likeness.shape[1] else np.zeros(0, np.float32)
    order = np.argsort(-top, kind="stable")
    enough = max(int((top >= gate).sum()), PAIRS // max(1, found.likeness.shape[1]))
    return np.sort(order[:enough])


def _leak(query: Seen, base: Seen, row: int, match: Match) -> Leak:
    return Leak(
        "near", query.case_ids[row], base.case_ids[match.place], match.agreement, TURNS[match.turn]
    )


def _once(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    """Each pair once, whichever of the two found the other; identical before near."""
    pairs: dict[frozenset[str], Leak] = {}
    for leak in leaks:
        pairs.setdefault(frozenset((leak.test, leak.train)), leak)
    return tuple(pairs.values())

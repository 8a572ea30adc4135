"""Images and patients of a test split that the training split has too."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustbench_med.cases import Cohort
from robustbench_med.overlap.calibration import LEAST, Calibration, calibrate
from robustbench_med.overlap.chance import limit
from robustbench_med.overlap.fingerprint import Whitening
from robustbench_med.overlap.matching import Match, best_of
from robustbench_med.overlap.picture import TURNS
from robustbench_med.overlap.seen import OnProgress, Seen, look, owners, pictures, silent
from robustbench_med.overlap.shortlist import Base, Indices, Shortlist, shortlist

Kind = Literal["patient", "identical", "near"]
ALWAYS = 600
"""So many test images are compared in detail, the most alike first, however few are suspicious."""
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
        compared: Test images that were laid on their most alike ones.
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
    near = _matches(test, train, shortlist(test.prints, mine, base), calibration.gate, on_progress)
    own = Base.of(test.prints, mine, whitening)
    inside = _matches(test, test, shortlist(test.prints, mine, own), calibration.gate, on_progress)
    known = {leak.test for leak in exact if leak.kind == "identical"}
    copies = _copies(test, train, near, calibration.limit)
    doubles = _copies(test, test, inside, _limit_inside(inside, mine, calibration, rng))
    return Search(
        (*exact, *(leak for leak in copies if leak.test not in known)),
        _once((*twins, *doubles)),
        calibration,
        len(near) + len(inside),
    )


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


def _matches(
    query: Seen, base: Seen, found: Shortlist, gate: float, on_progress: OnProgress
) -> dict[int, Match]:
    """Lay the most suspicious queries on their shortlists; the best match of each."""
    chosen = _suspicious(found, gate)
    matches: dict[int, Match] = {}
    for start in range(0, len(chosen), CHUNK):
        rows = chosen[start : start + CHUNK]
        mine = pictures(query, rows.tolist())
        near = pictures(base, found.place[rows].ravel().tolist())
        matches.update((row, best_of(mine[row], found, row, near)) for row in rows.tolist())
        on_progress("comparing details", min(start + CHUNK, len(chosen)), len(chosen))
    return matches


def _limit_inside(
    matches: Mapping[int, Match],
    owners: Indices,
    calibration: Calibration,
    rng: np.random.Generator,
) -> float:
    """The limit for pairs inside the test split, which may have a look of its own.

    A frame or a logo that all tested images share makes them alike; so their own agreements may
    raise the limit: those of strangers, or all where next to nobody is a stranger.
    """
    best = np.array([match.agreement for match in matches.values()])
    whose = owners[list(matches)]
    strange = best < calibration.sure
    if 2 * int(strange.sum()) < len(best):
        strange = np.ones_like(strange)
    if len(np.unique(whose[strange])) < LEAST:
        return calibration.limit
    return max(calibration.limit, limit(best[strange], whose[strange], 2 * len(owners), rng))


def _suspicious(found: Shortlist, gate: float) -> Indices:
    """Queries as alike as a planted copy, and the most alike others until there are enough."""
    top = found.likeness[:, 0] if found.likeness.shape[1] else np.zeros(0, np.float32)
    order = np.argsort(-top, kind="stable")
    enough = max(int((top >= gate).sum()), ALWAYS)
    return np.sort(order[:enough])


def _copies(query: Seen, base: Seen, matches: Mapping[int, Match], least: float) -> list[Leak]:
    return [
        Leak("near", query.case_ids[row], base.case_ids[m.place], m.agreement, TURNS[m.turn])
        for row, m in matches.items()
        if m.place >= 0 and m.agreement >= least
    ]


def _once(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    """Each pair once, whichever of the two found the other; identical before near."""
    pairs: dict[frozenset[str], Leak] = {}
    for leak in leaks:
        pairs.setdefault(frozenset((leak.test, leak.train)), leak)
    return tuple(pairs.values())

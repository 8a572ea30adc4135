"""From where on two images count as copies, and which copies are found so: both measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robustbench_med.overlap.chance import limit
from robustbench_med.overlap.fingerprint import fingerprint
from robustbench_med.overlap.picture import Floats, picture_of, plane_of, turned
from robustbench_med.overlap.planting import CHANGES
from robustbench_med.overlap.registration import agreement
from robustbench_med.overlap.seen import OnProgress, Seen, pictures, silent
from robustbench_med.overlap.shortlist import Base, Indices, Shortlist, shortlist

UNRELATED = 200
ORIGINALS = 30
LEAST = 20
"""Patients in the training split; fewer do not tell what is alike by chance."""
NOBODY = -1
Pictures = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Match:
    """The best that a query found.

    Attributes:
        place: In the base.
        agreement: Of the details, in [-1, 1].
        turn: Of the query, a position in `TURNS`.
    """

    place: int
    agreement: float
    turn: int


@dataclass(frozen=True)
class Calibration:
    """What makes two images copies.

    Attributes:
        limit: Agreement from which on they are; NaN where that could not be measured.
        gate: Lowest likeness of fingerprints between a planted copy and its original.
        typical: Median agreement of an image with the most alike of another patient.
        unrelated: How many images that rests on.
        planted: Change to copies found and copies planted.
        reason: Why nothing could be measured.
    """

    limit: float = math.nan
    gate: float = math.nan
    typical: float = math.nan
    unrelated: int = 0
    planted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reason: str = ""


def calibrate(
    train: Seen, base: Base, looks: int, rng: np.random.Generator, on_progress: OnProgress = silent
) -> Calibration:
    """Measure on the training split alone; its patients are each other's strangers.

    Args:
        train: The split.
        base: Its fingerprints.
        looks: How many images will be held against the limit.
        rng: Draws images and resamples patients.
        on_progress: Told after each image.
    """
    if train.patients < LEAST:
        return Calibration(
            reason=f"the training split has {train.patients} patients; what is alike by chance "
            f"shows from {LEAST} on"
        )
    order = spread(base.owners, rng)
    order = order[np.any(base.vectors[order], axis=1)]
    strangers = order[:UNRELATED]
    if not len(strangers):
        return Calibration(reason="every training image is of one value")
    found = shortlist(train.prints[strangers], base.owners[strangers], base)
    near = pictures(train, {*strangers.tolist(), *found.place.ravel().tolist()})
    best = np.array([
        best_of(near[int(index)], found, row, near).agreement for row, index in enumerate(strangers)
    ])  # fmt: skip
    least = limit(best, base.owners[strangers], looks, rng)
    planted, gate = _plant(train, base, order[:ORIGINALS], least, on_progress)
    return Calibration(least, gate, float(np.median(best)), len(strangers), planted)


def best_of(picture: NDArray[np.float32], found: Shortlist, row: int, near: Pictures) -> Match:
    """Lay a query on each image of its shortlist, and return the one that it agrees with best."""
    best = Match(-1, -1.0, 0)
    for place, likeness, turn in zip(
        found.place[row].tolist(), found.likeness[row].tolist(), found.turn[row].tolist(),
        strict=True,
    ):  # fmt: skip
        if likeness > 0 and place in near:
            agreed = agreement(turned(_exact(picture), turn), _exact(near[place]))
            best = max(best, Match(place, agreed, turn), key=lambda match: match.agreement)
    return best


def spread(owners: Indices, rng: np.random.Generator) -> Indices:
    """All positions in a random order that takes one image of every patient in turn."""
    order = rng.permutation(len(owners))
    turns: dict[int, int] = {}
    rank = np.zeros(len(owners), dtype=np.int64)
    for position in order.tolist():
        owner = int(owners[position])
        rank[position] = turns.get(owner, 0)
        turns[owner] = turns.get(owner, 0) + 1
    return np.asarray(order[np.argsort(rank[order], kind="stable")], dtype=np.int64)


def _plant(
    train: Seen, base: Base, originals: Indices, least: float, on_progress: OnProgress
) -> tuple[dict[str, tuple[int, int]], float]:
    """Count the copies that are found, by change, and return the lowest likeness of one."""
    copies: list[NDArray[np.float32]] = []
    for done, index in enumerate(originals.tolist(), start=1):
        plane = plane_of(train.cohort.cases[index])
        copies += [picture_of(change(plane)).astype(np.float32) for change in CHANGES.values()]
        on_progress("planting copies", done, len(originals))
    prints = np.stack([fingerprint(_exact(copy)) for copy in copies])
    found = shortlist(prints, np.full(len(copies), NOBODY), base)
    near = pictures(train, found.place.ravel())
    hits = [best_of(copy, found, row, near).agreement >= least for row, copy in enumerate(copies)]
    by_change = np.array(hits).reshape(len(originals), len(CHANGES)).sum(axis=0)
    own = found.place == np.repeat(originals, len(CHANGES))[:, None]
    counts = {
        name: (int(flagged), len(originals))
        for name, flagged in zip(CHANGES, by_change, strict=True)
    }
    return counts, float(found.likeness[own].min(initial=1.0))


def _exact(picture: NDArray[np.float32]) -> Floats:
    return picture.astype(np.float64)

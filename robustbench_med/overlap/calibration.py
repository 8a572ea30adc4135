"""From where on two images count as copies, and which copies are found so: both measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robustbench_med.overlap.chance import limit
from robustbench_med.overlap.fingerprint import fingerprint
from robustbench_med.overlap.matching import Picture, best_of
from robustbench_med.overlap.picture import Floats, picture_of, plane_of
from robustbench_med.overlap.planting import CHANGES
from robustbench_med.overlap.seen import OnProgress, Seen, pictures, silent
from robustbench_med.overlap.shortlist import Base, Indices, shortlist

UNRELATED = 200
ORIGINALS = 20
LEAST = 20
"""Patients in the training split; fewer do not tell what is alike by chance."""
NOBODY = -1
SURELY_COPIES = 0.05


@dataclass(frozen=True)
class Calibration:
    """What makes two images copies.

    Attributes:
        limit: Agreement from which on they are; NaN where that could not be measured.
        sure: Agreement that 95% of planted copies exceed.
        gate: Lowest likeness of fingerprints between a planted copy and its original.
        typical: Median agreement of an image with the most alike of another patient.
        unrelated: How many images that rests on.
        doubled: How many training images beside these have a copy under another patient's id.
        planted: Change to copies found and copies planted.
        reason: Why nothing could be measured.
    """

    limit: float = math.nan
    sure: float = math.nan
    gate: float = math.nan
    typical: float = math.nan
    unrelated: int = 0
    doubled: int = 0
    planted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reason: str = ""


def calibrate(
    train: Seen, base: Base, looks: int, rng: np.random.Generator, on_progress: OnProgress = silent
) -> Calibration:
    """Measure on the training split alone, whose patients are strangers to each other.

    Training images that agree with another patient's as well as planted copies do with their
    originals (from the 5th percentile of these on) are no strangers, and are left out.

    Args:
        train: The split.
        base: Its fingerprints.
        looks: How many images will be held against the limit.
        rng: Draws images and resamples patients.
        on_progress: Told after each image.
    """
    order = spread(base.owners, rng)
    order = order[np.any(base.vectors[order], axis=1)]
    drawn = order[:UNRELATED]
    if (patients := len(np.unique(base.owners[order]))) < LEAST:
        return Calibration(
            reason=f"the training split has {patients} patients; what is alike by chance "
            f"shows from {LEAST} on"
        )
    copies, gate = _plant(train, base, order[:ORIGINALS], on_progress)
    best = _alike(train, base, drawn)
    sure = float(np.quantile(copies, SURELY_COPIES))
    strange = best < sure
    if len(np.unique(base.owners[drawn[strange]])) < LEAST:
        return Calibration(
            doubled=int((~strange).sum()),
            reason="most training images have a copy under another patient's id",
        )
    least = limit(best[strange], base.owners[drawn[strange]], looks, rng)
    if not least > 0:
        return Calibration(reason="the training images have no detail to compare")
    hits = (copies >= least).sum(axis=0).tolist()
    planted = {name: (hit, len(copies)) for name, hit in zip(CHANGES, hits, strict=True)}
    counts = int(strange.sum()), int((~strange).sum())
    return Calibration(least, sure, gate, float(np.median(best[strange])), *counts, planted)


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


def _alike(train: Seen, base: Base, drawn: Indices) -> Floats:
    """The best agreement of each with an image of another patient."""
    found = shortlist(train.prints[drawn], base.owners[drawn], base)
    near = pictures(train, [*drawn.tolist(), *found.place.ravel().tolist()])
    return np.array([
        best_of(near[index], found, row, near).agreement for row, index in enumerate(drawn.tolist())
    ])  # fmt: skip


def _plant(
    train: Seen, base: Base, originals: Indices, on_progress: OnProgress
) -> tuple[Floats, float]:
    """Best agreements of copies, `(originals, changes)`, and the lowest likeness of one."""
    copies: list[Picture] = []
    for done, index in enumerate(originals.tolist(), start=1):
        plane = plane_of(train.cohort.cases[index])
        copies += [picture_of(change(plane)).astype(np.float32) for change in CHANGES.values()]
        on_progress("planting copies", done, len(originals))
    prints = np.stack([fingerprint(copy.astype(np.float64)) for copy in copies])
    found = shortlist(prints, np.full(len(copies), NOBODY), base)
    near = pictures(train, found.place.ravel().tolist())
    best = [best_of(copy, found, row, near).agreement for row, copy in enumerate(copies)]
    own = found.place == np.repeat(originals, len(CHANGES))[:, None]
    lowest = float(found.likeness[own].min(initial=1.0))
    return np.array(best).reshape(len(originals), len(CHANGES)), lowest

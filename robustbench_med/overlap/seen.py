"""One pass over a split: everything that the audit needs of its images, and none of them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_med.cases import Attribute, Case, Cohort
from robustbench_med.overlap.features import features_of
from robustbench_med.overlap.fingerprint import LENGTH, Fingerprints, fingerprint
from robustbench_med.overlap.picture import Floats, picture_of, plane_of
from robustbench_med.overlap.truth import truth_of

OnProgress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


NONE: tuple[tuple[()], ...] = ((),) * 5


@dataclass(frozen=True, eq=False)
class Seen:
    """A split of `n` cases, as far as it is remembered.

    Attributes:
        cohort: Where an image is read again if it must be.
        case_ids: In order.
        patient_ids: Whose they are.
        pixels: Digest of each image's values; empty for an image of one value.
        prints: `(n, 63)`, fingerprints.
        attributes: As recorded.
        truths: Label, findings, values or sizes of structures, by name.
        features: Of some cases, by position: `(d,)`, what intensities and texture are like.
    """

    cohort: Cohort
    case_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    pixels: tuple[str, ...]
    prints: Fingerprints
    attributes: tuple[Mapping[str, Attribute], ...]
    truths: tuple[Mapping[str, Attribute], ...]
    features: Mapping[int, Floats]

    def __len__(self) -> int:
        return len(self.case_ids)

    @property
    def patients(self) -> int:
        """How many patients the cases are of."""
        return len(set(self.patient_ids))


def look(cohort: Cohort, drawn: Iterable[int] = (), on_progress: OnProgress = silent) -> Seen:
    """Read every case once, and keep the features of those at the positions `drawn`."""
    wanted = set(drawn)
    rows: list[tuple[str, str, str, Mapping[str, Attribute], Mapping[str, Attribute]]] = []
    prints = np.zeros((len(cohort), LENGTH), dtype=np.float32)
    features: dict[int, Floats] = {}
    for index in range(len(cohort)):
        case = cohort.cases[index]
        prints[index] = fingerprint(picture_of(plane_of(case)))
        if index in wanted:
            features[index] = features_of(case)
        truth = truth_of(case, cohort.task)
        rows.append((case.case_id, case.patient_id, _pixels(case), case.attributes, truth))
        on_progress(f"looking at {cohort.name}", index + 1, len(cohort))
    case_ids, patient_ids, pixels, attributes, truths = tuple(zip(*rows, strict=True)) or NONE
    return Seen(cohort, case_ids, patient_ids, pixels, prints, attributes, truths, features)


def pictures(seen: Seen, indices: Iterable[int]) -> dict[int, NDArray[np.float32]]:
    """Read the pictures of some cases again, in order, so that a volume is decoded once."""
    return {
        index: picture_of(plane_of(seen.cohort.cases[index])).astype(np.float32)
        for index in sorted({int(index) for index in indices})
    }


def owners(test: Seen, train: Seen) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the patients of both splits; equal ids get equal numbers."""
    numbers: dict[str, int] = {}
    both = [numbers.setdefault(p, len(numbers)) for p in (*test.patient_ids, *train.patient_ids)]
    numbered = np.array(both, dtype=np.int64)
    return numbered[: len(test)], numbered[len(test) :]


def _pixels(case: Case) -> str:
    """Hash what an image shows; an image of one value shows nothing."""
    image = case.image.detach().cpu().contiguous()
    if image.numel() == 0 or bool((image == image.reshape(-1)[0]).all()):
        return ""
    digest = hashlib.sha256(f"{image.dtype}{tuple(image.shape)}".encode())
    digest.update(image.numpy().tobytes())
    return digest.hexdigest()

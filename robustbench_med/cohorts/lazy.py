"""Cases of a folder, decoded when asked for, summarised without being decoded."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

from robustbench_med.cases import Attribute, Case, CaseSummary, Task
from robustbench_med.cohorts.entry import Entry
from robustbench_med.cohorts.reader import Reader, Scaled, sliced
from robustbench_med.cohorts.target import target_tensor
from robustbench_med.errors import IntegrityError

Files = tuple[Path, Path | None]


@dataclass(frozen=True)
class Place:
    """Where a case lies.

    Attributes:
        entry: Its row.
        files: Hash of its files' bytes when the cohort was loaded.
        z: Slice of the volume; None for all of it.
    """

    entry: Entry
    files: str
    z: int | None

    @property
    def case_id(self) -> str:
        """The row's, and the slice's number."""
        return self.entry.case_id if self.z is None else f"{self.entry.case_id}.z{self.z:02d}"

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """The row's, and the slice's number as `z`."""
        known = self.entry.attributes
        return known if self.z is None else {**known, "z": self.z}


@dataclass(frozen=True)
class FolderCases(Sequence[Case]):
    """Cases that stay on disk.

    Attributes:
        task: What is asked.
        reader: What shapes the pixels.
        places: One per case.
    """

    task: Task
    reader: Reader
    places: tuple[Place, ...]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        """Decode the case at `index`.

        Raises:
            IntegrityError: If its files changed since the cohort was loaded.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self.places[index]
        entry = place.entry
        scaled = self._scaled(place)
        mask = scaled.mask
        target = target_tensor(self.task, entry.values) if mask is None else mask
        context = {} if scaled.spacing_mm is None else {"spacing": scaled.spacing_mm.clone()}
        return Case(
            place.case_id, entry.patient_id, scaled.image, target, context, place.attributes
        )

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`; the digest is of the files' bytes and of what shapes the pixels."""
        place = self.places[index]
        entry = place.entry
        known = (place.case_id, entry.patient_id, place.files, entry.values, place.z)
        text = f"{known}{self.task}{self.reader}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return CaseSummary(place.case_id, entry.patient_id, place.attributes, digest)

    def _scaled(self, place: Place) -> Scaled:
        files = (place.entry.image, place.entry.mask)
        if place.z is None:
            return self.reader.on_grid(_read(self.reader, files, place.files))
        return self.reader.on_grid(sliced(_kept(self.reader, files, place.files), place.z))


def places_of(entry: Entry, reader: Reader) -> list[Place]:
    """Decode and hash an entry's files once: one place, or one per slice of its volume.

    Raises:
        InputError: As `Reader.stored`.
    """
    stored = reader.stored(entry.image, entry.mask)
    digest = _digest((entry.image, entry.mask))
    if reader.volume == "whole":
        return [Place(entry, digest, None)]
    return [Place(entry, digest, z) for z in range(stored.image.shape[1])]


def _digest(files: Files) -> str:
    digest = hashlib.sha256()
    for path in filter(None, files):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read(reader: Reader, files: Files, expected: str) -> Scaled:
    names = " or ".join(str(path) for path in files if path)
    try:
        found = _digest(files)
    except OSError as error:
        raise IntegrityError(f"{names} was read at the load and now cannot be: {error}") from error
    if found != expected:
        raise IntegrityError(f"{names} changed since the cohort was loaded; load it again")
    return reader.scaled(reader.stored(*files))


# Consecutive slices come from one volume. The hash in the key keeps a changed file out.
_kept = lru_cache(maxsize=2)(_read)

"""Images that another tool, or an earlier run, found."""

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.attacks.examples import (
    SUFFIX,
    ball_name,
    example_name,
    read_image,
    read_metadata,
)
from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, IntegrityError, PartialWarning
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

Missing = Literal["clean", "failed"]


@dataclass(frozen=True)
class Given:
    """Take each case's image from its file; the probe pulls it into the ball and scores it.

    Files are as `attacks/examples.py` has them. That of the ball's own folder inside `folder`,
    where `keep` writes, comes before that of `folder` itself. An image from outside the ball is
    not refused: the nearest one inside is scored.

    Attributes:
        folder: Where the files lie; a path that is not absolute starts from the working directory.
        missing: What a case without a file counts as: "clean", its clean image, with a
            `PartialWarning`; or "failed", a failure of the probe. The report counts either.
        sha256: Of all names and contents. Left out it is computed here, so that other files are
            another attack and nothing stored is taken for theirs; set, it must agree.
    """

    folder: str
    missing: Missing = "clean"
    sha256: str = ""
    _seen: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.missing not in get_args(Missing):
            legal = ", ".join(get_args(Missing))
            raise InputError(f"given: missing must be one of {legal}, got {self.missing!r}")
        object.__setattr__(self, "_seen", _contents(self.folder))
        found = hashlib.sha256(repr(sorted(self._seen.items())).encode()).hexdigest()
        if self.sha256 not in ("", found):
            raise IntegrityError(f"given: {self.folder}: its files are not those of sha256 "
                                 f"{self.sha256}: theirs is {found}")  # fmt: skip
        object.__setattr__(self, "sha256", found)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`.

        Raises:
            InputError: If an image does not fit its case, or leaves the bounds.
            IntegrityError: If a file is not what it was when the attack was built.
            CaseError: If a case has no file, and `missing` is "failed".
        """
        del model, rng
        if ball.eps == 0:
            return batch.image
        cases = zip(batch.case_ids, batch.image, strict=True)
        found = torch.stack([self._of(case_id, image, ball) for case_id, image in cases])
        silent = [case_id for case_id in batch.case_ids if self._place(case_id, ball) is None]
        if silent:
            message = "given: no file for this case: its clean image was scored"
            warnings.warn(PartialWarning(message, silent), stacklevel=2)
        return found

    def _of(self, case_id: str, clean: Tensor, ball: Ball) -> Tensor:
        place = self._place(case_id, ball)
        if place is not None:
            return self._read(place, clean, ball)
        if self.missing == "failed":
            raise CaseError(f"given: no {example_name(case_id)} in {self.folder}")
        return clean

    def _place(self, case_id: str, ball: Ball) -> str | None:
        name = example_name(case_id)
        places = (f"{ball_name(ball)}/{name}", name)
        return next((place for place in places if place in self._seen), None)

    def _read(self, place: str, clean: Tensor, ball: Ball) -> Tensor:
        path = Path(self.folder) / place
        if not path.is_file() or _digest(path) != self._seen[place]:
            raise IntegrityError(f"{path}: changed since the run began; run the plan again")
        image = read_image(path, clean)
        low, high = ball.bounds
        if image.min() < low or image.max() > high:
            raise InputError(f"{path}: expected values in [{low:g}, {high:g}], got "
                             f"[{float(image.min()):g}, {float(image.max()):g}]")  # fmt: skip
        return image


def _contents(folder: object) -> dict[str, str]:
    """Hash of every file, by its path in the folder; each is named after its case."""
    if not isinstance(folder, str) or not folder:
        raise InputError(f"given: folder must be the path of a folder, got {folder!r}")
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"given: found no folder {root.absolute()}; a path that is not absolute "
                         "starts from the working directory")  # fmt: skip
    paths = sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern + SUFFIX))
    if not paths:
        raise InputError(f"given: {root} holds no {SUFFIX} file; see 'Examples from elsewhere' in "
                         "docs/attack.md")  # fmt: skip
    for path in paths:
        read_metadata(path)
    return {path.relative_to(root).as_posix(): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Write down what another attack finds."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustbench_med.attacks.examples import (
    ball_name,
    example_name,
    image_digest,
    read_image,
    read_metadata,
    write_example,
)
from robustbench_med.attacks.inner import Inner, attack_of
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.attacks.queries import ask, goal_of
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Keep:
    """Run an inner attack and write each image that is worse than what is known of its case.

    One file a case, as `attacks/examples.py` has them, in a folder per ball inside `folder`. What
    is known is the image in the file, or the clean image where there is none: a file is replaced
    by a worse image only, judged by this model, unless it is of another clean image or ball. So
    several attacks may share a folder in any order, one process at a time; models may not.

    What is returned is what the inner attack found, inside the ball, whatever the files hold.
    Files are written when values are computed: a run that is stored already writes none.

    Attributes:
        folder: Where to write; a path that is not absolute starts from the working directory.
            Files hold the images, and the ids of the cases.
        inner: The attack, by name, as a table, or itself.
        objective: Which of two images is worse; None takes that of the inner attack, or, if it
            has none, the margin of a decision and the task's loss elsewhere.
    """

    folder: str
    inner: Inner = "pgd"
    objective: Asked | None = None

    def __post_init__(self) -> None:
        folder: object = self.folder
        if not isinstance(folder, str) or not folder:
            raise InputError(f"keep: folder must be the path of a folder, got {folder!r}")
        inner = attack_of(self.inner)
        goal = getattr(inner, "objective", None) if self.objective is None else self.objective
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "objective", None if goal is None else resolved(goal))

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`; raises what the inner attack raises, and the following.

        Raises:
            InputError: If the folder cannot be written to, or a file in it is no example.
        """
        if ball.eps == 0:
            return batch.image
        found = attack_of(self.inner)(model, batch, ball, rng).detach()
        found = ball.stored(found, batch.image, batch.context)
        folder = Path(self.folder) / ball_name(ball)
        paths = [folder / example_name(case_id) for case_id in batch.case_ids]
        places = zip(paths, batch.image, strict=True)
        known = torch.stack([_known(path, clean, ball) for path, clean in places])
        known = ball.stored(known, batch.image, batch.context)  # files are not trusted
        goal = goal_of(self.objective, model.task)
        before, after = (ask(model, batch, image, goal)[0] for image in (known, found))
        for row in torch.nonzero(after > before).flatten().tolist():
            marks = _marks(batch.image[row], ball) | {"source": type(self.inner).__name__}
            write_example(paths[row], batch.case_ids[row], found[row], marks)
        return found


def _known(path: Path, clean: Tensor, ball: Ball) -> Tensor:
    """The image in the file if it is of this clean image and ball, else the clean image."""
    if not path.exists():
        return clean
    metadata = read_metadata(path)
    same = all(metadata.get(name) == mark for name, mark in _marks(clean, ball).items())
    return read_image(path, clean) if same else clean


def _marks(clean: Tensor, ball: Ball) -> dict[str, str]:
    return {"clean": image_digest(clean), "ball": repr(ball)}

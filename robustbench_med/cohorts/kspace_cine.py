"""Labels straight from k-space: slices as they were measured, and how many lines of each.

The digest of every case covers all files `cine_*.py`, and weights name the digest of what they
were trained on. This file is none of them, so that the tasks before it keep theirs; its own code
is a field of its views instead.
"""

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from robustbench_med.cases import Bounds, Task
from robustbench_med.cohorts.cine_frame import (
    CLASSES,
    Made,
    Papillary,
    Part,
    View,
    frames_of,
    true_labels,
)
from robustbench_med.cohorts.cine_reconstruction import UNBOUNDED, ReconstructionView
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.patient import Patient, seed_of


@lru_cache(maxsize=1)
def own_code() -> str:
    """Hash of the code in this file; its comments and layout do not count."""
    tree = ast.parse(Path(__file__).read_bytes())
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


@dataclass(frozen=True)
class KspaceSegmentationView:
    """One case per slice and moment: k-space `(2 coils, h, w)`, labels `(h, w)`.

    The slices and their masks are those that the task `reconstruction` has. The context holds
    `full` too, `(2, h, w)`: the image of the same measurement with every line, noise and all. It
    is for losses that compare with it; a network that answers from it answers another question.

    Attributes:
        measured: How each slice is measured.
        papillary: What the papillary muscles count as.
        code: That makes the cases.
    """

    measured: ReconstructionView
    papillary: Papillary
    code: str = field(default_factory=own_code, repr=False)

    task: ClassVar[Task] = Task("segmentation", CLASSES)
    bounds: ClassVar[Bounds] = UNBOUNDED

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`."""
        return self.measured.parts(patient)

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        view = self.measured
        frame = frames_of(patient, view.frames, view.slices)[number]
        under = view.make(patient, number)
        every_line = replace(view, acceleration=1.0, centre_lines=0).make(patient, number)
        maps = under.context.get("maps")
        full = adjoint(
            to_complex(every_line.image[None]),
            None if maps is None else to_complex(maps[None]),
            every_line.context["mask"][None],
        )
        context = {**under.context, "full": to_channels(full[None])[0]}
        target = true_labels(patient, frame, view.grid, self.papillary)
        return Made(under.image, target, context)


@dataclass(frozen=True)
class DrawnLines:
    """Each case is measured with one of several numbers of lines, drawn for it.

    Attributes:
        lines: Numbers of lines, as likely as each other.
        views: What is made with each, of one task, with the same parts.
        code: That draws.
    """

    lines: tuple[int, ...]
    views: tuple[View, ...]
    code: str = field(default_factory=own_code, repr=False)

    @property
    def task(self) -> Task:
        """See `View`."""
        return self.views[0].task

    @property
    def bounds(self) -> Bounds:
        """See `View`."""
        return self.views[0].bounds

    def parts(self, patient: Patient) -> Sequence[Part]:
        """See `View`; each part knows its `lines`."""
        return [
            Part(part.name, {**part.attributes, "lines": self.lines[self._drawn(patient, part)]})
            for part in self.views[0].parts(patient)
        ]

    def make(self, patient: Patient, number: int) -> Made:
        """See `View`."""
        part = self.views[0].parts(patient)[number]
        return self.views[self._drawn(patient, part)].make(patient, number)

    def _drawn(self, patient: Patient, part: Part) -> int:
        return seed_of(patient.seed, "lines", part.name) % len(self.views)

"""A case's files as tensors: decoded, checked, in model order and on the model's grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.cohorts.grid import Fit, Grid, read_grid
from robustbench_med.cohorts.intensity import Intensity, intensity_rule
from robustbench_med.cohorts.labels import LabelSchema
from robustbench_med.cohorts.pixels import Array, Colour, Pixels, decode_image, decode_mask
from robustbench_med.cohorts.problems import attempt
from robustbench_med.components import suggest
from robustbench_med.errors import InputError

VolumeRule = Literal["whole", "slices"]


@dataclass(frozen=True)
class Stored:
    """A case's files, checked, as they are stored.

    Attributes:
        image: `(c, *s)`, stored values.
        mask: `(*s)`, class indices; None where the task has no masks.
        spacing_mm: Per spatial axis, z, y, x; None where it is not recorded.
    """

    image: Array
    mask: NDArray[np.int64] | None
    spacing_mm: tuple[float, ...] | None


@dataclass(frozen=True)
class Scaled:
    """A case in [0, 1].

    Attributes:
        image: `(c, *s)`, float32.
        mask: `(*s)`, class indices; None where the task has no masks.
        spacing_mm: Per spatial axis of the file, z, y, x, in mm; None where not recorded.
    """

    image: Tensor
    mask: Tensor | None
    spacing_mm: Tensor | None


@dataclass(frozen=True)
class Reader:
    """What shapes a case's pixels.

    Attributes:
        intensity: From stored values to [0, 1].
        schema: Of the masks; None where the task has none.
        grid: Rows and columns given to the model.
        axes: Letters of the stored axes of NIfTI and `.npy`; None for the format's own.
        colour: Of PNG and JPEG images.
        volume: Whether a case is a volume or one of its slices.
    """

    intensity: Intensity
    schema: LabelSchema | None
    grid: Grid
    axes: str | None
    colour: Colour
    volume: VolumeRule

    def __post_init__(self) -> None:
        problems = [
            f"{name}: no {word!r}; {suggest(str(word), choices)}"
            for name, word, choices in (
                ("colour", self.colour, get_args(Colour)),
                ("volume", self.volume, get_args(VolumeRule)),
            )
            if word not in choices
        ]
        if self.axes is not None and not _are_axes(self.axes):
            problems.append(
                f"axes: expected x, y and, where stored, z and c, each once, got {self.axes!r}"
            )
        if self.grid.fit == "crop" and self.schema is not None and self.schema.index("0") is None:
            problems.append("fit: 'crop' pads masks by the stored value 0, which labels lacks")
        if problems:
            raise InputError("\n".join(problems))

    def stored(self, image: Path, mask: Path | None) -> Stored:
        """Decode and check a case's files.

        Raises:
            InputError: If a file does not decode, holds voxels or labels that are not allowed,
                or image and mask are on different grids.
        """
        pixels = decode_image(image, self.colour, self.axes)
        problem = self.intensity.problem(pixels.array)
        if self.volume == "slices" and "z" not in pixels.axes:
            problem = f"volume = 'slices' needs a z axis, got {pixels.axes!r}"
        if problem:
            raise InputError(f"{image}: {problem}")
        array = _in_model_order(pixels)
        if mask is None or self.schema is None:
            return Stored(array, None, _spacing_mm(pixels))
        labels = decode_mask(mask, self.axes)
        truth = _in_model_order(labels)[0]
        problem = _grid_problem(pixels, labels) or self.schema.problem(truth)
        if problem:
            raise InputError(f"{mask}: {problem}")
        return Stored(array, self.schema.classes(truth), _spacing_mm(pixels))

    def scaled(self, stored: Stored) -> Scaled:
        """Bring a case into [0, 1], still on its stored grid; the spacing is the model's."""
        image = torch.from_numpy(np.ascontiguousarray(self.intensity(stored.image)))
        mask = None if stored.mask is None else torch.from_numpy(stored.mask)
        if stored.spacing_mm is None:
            return Scaled(image, mask, None)
        return Scaled(image, mask, self.grid.spacing_mm(stored.spacing_mm, image.shape))

    def on_grid(self, scaled: Scaled) -> Scaled:
        """Put a case onto the model's grid."""
        if scaled.mask is None:
            return Scaled(self.grid.image(scaled.image), None, scaled.spacing_mm)
        background = (self.schema.index("0") or 0) if self.schema else 0
        mask = self.grid.mask(scaled.mask, background)
        return Scaled(self.grid.image(scaled.image), mask, scaled.spacing_mm)


def read_reader(
    schema: LabelSchema | None,
    intensity: str | Sequence[float],
    grid: tuple[Sequence[int] | None, Fit],
    axes: str | None,
    words: tuple[Colour, VolumeRule],
) -> Reader:
    """Read `intensity`, `size` and `fit`, `axes`, `colour` and `volume` of a plan.

    Raises:
        InputError: With a line for everything that is wrong with them.
    """
    problems: list[str] = []
    rule = attempt(problems, partial(intensity_rule, intensity)) or Intensity("dtype")
    shape = attempt(problems, partial(read_grid, *grid)) or Grid()
    reader = attempt(problems, partial(Reader, rule, schema, shape, axes, *words))
    if reader is None or problems:
        raise InputError("\n".join(problems))
    return reader


def sliced(scaled: Scaled, z: int) -> Scaled:
    """Return a copy of the slice at `z`, with the spacing of its volume."""
    mask = None if scaled.mask is None else scaled.mask[z].clone()
    return Scaled(scaled.image[:, z].clone(), mask, scaled.spacing_mm)


def _are_axes(axes: object) -> bool:
    if not isinstance(axes, str) or len(set(axes)) != len(axes):
        return False
    return {"x", "y"} <= set(axes) <= {"c", "x", "y", "z"}


def _in_model_order(pixels: Pixels) -> Array:
    """Return `(c, *s)`, s in the order z, y, x."""
    order = [pixels.axes.index(letter) for letter in "czyx" if letter in pixels.axes]
    array = pixels.array.transpose(order)
    return array if "c" in pixels.axes else array[np.newaxis]


def _spacing_mm(pixels: Pixels) -> tuple[float, ...] | None:
    if pixels.spacing_mm is None:
        return None
    stored = dict(zip(pixels.axes, pixels.spacing_mm, strict=True))
    return tuple(stored[letter] for letter in "zyx" if letter in stored)


def _grid_problem(image: Pixels, mask: Pixels) -> str | None:
    stored, wanted = _in_model_order(mask).shape[1:], _in_model_order(image).shape[1:]
    if stored != wanted:
        return f"the mask's grid {stored} is not the image's {wanted}"
    both = image.affine is not None and mask.affine is not None
    if both and not np.allclose(image.affine, mask.affine, atol=1e-2):  # type: ignore[arg-type]
        return "the mask's affine is not the image's"
    return None

"""What lies around the heart: the chest's wall, lungs, liver, spleen, spine and aorta.

Simple closed shapes on the short-axis plane, in mm from the heart's axis: y points to the
patient's back, x to the left side. The liver and the spleen come up under the heart towards
its apex. The subcutaneous fat is the only part that a patient's ancestry group has an effect on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

MUSCLE_MM = 9.0
WALL_TO_HEART_MM = 8.0


class Part(NamedTuple):
    """A tissue and how far inside its border each point lies, mm: positive inside, `(h, w)`."""

    tissue: str
    depth: Tensor


@dataclass(frozen=True)
class Torso:
    """What decides a patient's torso.

    Attributes:
        width_mm: Half the chest's width; likewise `depth_mm` from front to back.
        fat_mm: Subcutaneous fat in front of the muscle.
        heart_mm: From the heart's axis to the inside of the chest's front wall.
        liver_mm: Height of the liver's dome below the heart's axis, at the base.
        fat_pad_mm: Fat around the heart.
        tilt_rad: By which the front is turned from the image's top towards its left: a short-axis
            plane is oblique to the body.
    """

    width_mm: float
    depth_mm: float
    fat_mm: float
    heart_mm: float
    liver_mm: float
    fat_pad_mm: float
    tilt_rad: float


def parts(torso: Torso, z: float, y: Tensor, x: Tensor) -> Iterator[Part]:
    """Tissues from the outside in: a later one replaces what earlier ones put there.

    Args:
        torso: Whose.
        z: Height along the heart's axis, mm, 0 at the base.
        y: `(h, 1)`, mm.
        x: `(1, w)`, mm.
    """
    cos, sin = math.cos(torso.tilt_rad), math.sin(torso.tilt_rad)
    y, x = y * cos + x * sin, x * cos - y * sin
    centre = torso.depth_mm - torso.heart_mm
    muscle = torso.fat_mm + MUSCLE_MM
    body = (centre, -10.0, torso.depth_mm + muscle, torso.width_mm + muscle)
    yield Part("fat", _inside(y, x, body))
    yield Part("muscle", _inside(y, x, _shrunk(body, torso.fat_mm)))
    yield Part("lung", _inside(y, x, _shrunk(body, muscle)))
    dome = torso.liver_mm - 0.45 * z
    liver = _inside(y, x, (dome + 75.0, -45.0, 75.0, 80.0))
    spleen = _inside(y, x, (dome + 68.0, 62.0, 48.0, 40.0))
    chest = _inside(y, x, _shrunk(body, muscle + 3.0))
    yield Part("liver", torch.minimum(liver, chest))
    yield Part("spleen", torch.minimum(spleen, chest))
    back = centre + torso.depth_mm
    yield Part("bone", _inside(y, x, (back - 24.0, -20.0, 20.0, 20.0)))
    yield Part("blood", _inside(y, x, (back - 52.0, 8.0, 11.0, 11.0)))


def _inside(y: Tensor, x: Tensor, ellipse: tuple[float, float, float, float]) -> Tensor:
    """Depth below an ellipse's border, to first order; `(centre y, centre x, half y, half x)`."""
    down, across, tall, wide = ellipse
    share = torch.hypot((y - down) / tall, (x - across) / wide)
    return (1 - share) * min(tall, wide)


def _shrunk(
    ellipse: tuple[float, float, float, float], by_mm: float
) -> tuple[float, float, float, float]:
    down, across, tall, wide = ellipse
    return down, across, tall - by_mm, wide - by_mm

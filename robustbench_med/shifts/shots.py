"""A scan in shots: where the object lies while each line of k-space is acquired."""

from math import pi

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.shifts.rigid import precise, translation


def places(who: str, batch: Batch, lines: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Part each scan into shots, and say where the object lies in each.

    Its place is where it lies while the line nearest to k-space's centre is acquired: there it
    does not move. In every other shot it lies where one of the moves has brought it.

    Args:
        who: The shift's name.
        batch: The cases, for errors.
        lines: Which lines are acquired, from the first to the last, `(b, planes, lines)`, bool, on
            the CPU. The planes of a case share its moves.
        moves: `(b, events, 4)`: when, as a share of the acquired lines; mm; whither, in turns from
            columns towards rows; degrees.

    Returns:
        Shot of each line, `(b * planes, lines)`, and by shot `(b * planes, events + 1, 3)`: y and
        x in mm, and an angle in radians.

    Raises:
        CaseError: If a plane has fewer than two acquired lines.
    """
    planes, acquired = lines.shape[1], lines.flatten(0, 1)
    count = acquired.sum(dim=1)
    still = (count < 2).nonzero()
    if len(still):
        case = batch.case_ids[int(still[0]) // planes]
        raise CaseError(
            f"{who}: case {case!r} has a plane with fewer than two acquired lines: "
            "nothing can move in it"
        )
    events = moves.shape[1]
    moment, mm, direction, degrees = moves.repeat_interleave(planes, 0).unbind(dim=2)
    start = 1 + (moment * (count - 1).unsqueeze(1)).floor()
    rank = acquired.cumsum(dim=1) - 1
    shot = (rank.unsqueeze(2) >= start.unsqueeze(1)).sum(dim=2)
    distance = (torch.arange(acquired.shape[1]) - acquired.shape[1] // 2).abs()
    middle = distance.where(acquired, acquired.shape[1]).argmin(dim=1, keepdim=True)
    centre = shot.gather(1, middle)
    angle = 2 * pi * direction
    moved = torch.stack([mm * angle.sin(), mm * angle.cos(), degrees * pi / 180], dim=2)
    number = torch.arange(events + 1)
    taken = (number - (number > centre).long()).clamp(max=events - 1)
    place = moved.gather(1, taken.unsqueeze(2).expand(-1, -1, 3))
    return shot, place.where((number != centre).unsqueeze(2), 0)


def ramp(shot: Tensor, place: Tensor, pixel_mm: Tensor, image: Tensor) -> Tensor:
    """Phase of each sample, `(n, h, w)`, from where the object lies in its row's shot.

    Args:
        shot: Of each row, `(n, h)`.
        place: By shot, `(n, shots, 2 or more)`: along rows and columns, mm.
        pixel_mm: `(n, 2)`: distance of rows and of columns.
        image: Whose width, device and precision it gets.
    """
    offset_mm = place[..., :2].gather(1, shot.unsqueeze(2).expand(-1, -1, 2))
    return precise(translation(offset_mm, pixel_mm, image.shape[-1]), image)

"""How a random search changes images, one square at a time, inside a ball."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from robustbench_med.attacks.squares import (
    Places,
    local_index,
    pyramid_pair,
    sides_of,
    tiling,
)
from robustbench_med.cases import Batch
from robustbench_med.streams import CaseRng
from robustbench_med.threat import ORDER, Ball, Pull


@dataclass(frozen=True)
class Moves:
    """Changes of a batch's images inside a ball.

    Inside, an image that has no axis, `(b, c)`, has one channel whose axis is its channels.

    Attributes:
        batch: Its images are the centres.
        ball: How far each voxel may move, and which.
    """

    batch: Batch
    ball: Ball

    def first(self, rng: CaseRng) -> Tensor:
        """Images that a search starts from, `(b, c, *s)`, at the edge of the ball.

        Under linf stripes, one sign for each channel and each place on the last axis; under the
        other norms tiles of the shape that later squares have.
        """
        channels, *size = self._centre.shape[1:]
        if self.ball.norm == "linf":
            draws = rng.uniform(channels, *[1] * (len(size) - 1), size[-1]).to(self._centre)
            return self._pulled(self._centre + self._radius * _signs(draws))
        counts, inside, tiles, places = tiling(size)
        draws = rng.uniform(channels + 1, *counts).to(self._centre)
        draws = draws.flatten(start_dim=2)[:, :, _numbered(counts, tiles)]
        shape = self._heaps(draws[:, -1:], tuple(max(side // 5, 1) for side in size), places)
        offset = _signs(draws[:, :-1]) * shape * inside.to(shape)
        return self._ended(self._allowed(offset))

    @property
    def draws(self) -> int:
        """Uniform random numbers that one trial takes."""
        return self._centre.shape[1] + 2 * self._centre.ndim - 1

    def tried(self, image: Tensor, share: float, draws: Tensor) -> Tensor:
        """Images with one square changed, inside the ball.

        Args:
            image: `(b, c, *s)`, inside the ball.
            share: Of the voxels that a square holds.
            draws: Uniform on [0, 1), `(b, self.draws)`.
        """
        size, step = self._centre.shape[2:], self._centre.ndim - 1
        here, there, turn, draws = draws.tensor_split([step, 2 * step, 2 * step + 1], dim=1)
        image = image.view_as(self._centre)
        signs = _signs(draws).to(image).view(*draws.shape, *[1] * len(size))
        if self.ball.norm == "linf":
            sides = sides_of(share, size)
            inside, _ = local_index(self._places.starts(here, sides), sides, size)
            changed = self._centre + self._radius * signs
            return self._pulled(changed.where(inside, image))
        sides = sides_of(share, size, least=3)
        inside, places = local_index(self._places.starts(here, sides), sides, size)
        emptied, _ = local_index(self._places.starts(there, sides), sides, size)
        turn = turn.to(image).view(-1, *[1] * (image.ndim - 1))
        heaps = self._allowed(self._heaps(turn, sides, places) * signs * inside)
        return self._ended(self._moved(image - self._centre, heaps, inside, emptied))

    def _moved(self, offset: Tensor, heaps: Tensor, inside: Tensor, emptied: Tensor) -> Tensor:
        """Offset with all that both squares held, and what the whole lacks, in the first square."""
        held = self._length(offset.where(inside | emptied, 0))
        lack = self._radius**self._order - self._length(offset, whole=True) ** self._order
        room = (lack.clamp(min=0) / offset.shape[1] + held**self._order) ** (1 / self._order)
        kept = offset.where(inside, 0)
        heaps = heaps + kept / self._length(kept).clamp(min=1e-12)
        heaps = heaps / self._length(heaps).clamp(min=1e-12) * room
        return heaps.where(inside, offset.where(~emptied, 0))

    def _ended(self, offset: Tensor) -> Tensor:
        """Images on the sphere; under l1 the nearest in the ball."""
        if self.ball.norm == "l1":
            return self._pulled(self._centre + offset)
        length = self._length(offset, whole=True).clamp(min=1e-12)
        return self._pulled(self._centre + offset * (self._radius / length))

    def _heaps(self, turn: Tensor, sides: tuple[int, ...], places: list[Tensor]) -> Tensor:
        """Heap and pit along an axis that `turn`, uniform on [0, 1), picks for each voxel."""
        axis = (turn * len(sides)).long()
        heaps = torch.zeros((), dtype=turn.dtype, device=turn.device)
        for along in range(len(sides)):
            pair = pyramid_pair(sides, along, self._order).to(turn)
            heaps = torch.where(axis == along, pair[tuple(places)], heaps)
        return heaps

    def _length(self, offset: Tensor, *, whole: bool = False) -> Tensor:
        """Length of each channel, `(b, c, *1)`, or of the whole case, `(b, 1, *1)`."""
        axes = tuple(range(1 if whole else 2, offset.ndim))
        length: Tensor = torch.linalg.vector_norm(offset, self._order, dim=axes, keepdim=True)
        return length

    def _allowed(self, offset: Tensor) -> Tensor:
        return offset if self._support is None else offset.where(self._support, 0)

    def _pulled(self, image: Tensor) -> Tensor:
        return self._pull(image.view_as(self.batch.image))

    @cached_property
    def _centre(self) -> Tensor:
        return _with_axis(self.batch.image)

    @cached_property
    def _radius(self) -> Tensor:
        radius = self.ball.radius(self.batch.image, self.batch.context)
        return radius.view(-1, *[1] * (self._centre.ndim - 1))

    @cached_property
    def _pull(self) -> Pull:
        return self.ball.around(self.batch.image, self.batch.context)

    @cached_property
    def _support(self) -> Tensor | None:
        if self.ball.support is None:
            return None
        image = self.batch.image
        return _with_axis((self.batch.context[self.ball.support].to(image) != 0).expand_as(image))

    @cached_property
    def _places(self) -> Places:
        room = None if self._support is None else self._support.any(dim=1)
        return Places(self._centre.shape[2:], room)

    @property
    def _order(self) -> float:
        return ORDER[self.ball.norm]


def _with_axis(image: Tensor) -> Tensor:
    return image if image.ndim > 2 else image.unsqueeze(1)


def _numbered(counts: tuple[int, ...], tiles: list[Tensor]) -> Tensor:
    """Each voxel's tile as one number, in the order of the flattened tiles."""
    number = torch.zeros((), dtype=torch.long)
    for count, tile in zip(counts, tiles, strict=True):
        number = number * count + tile
    return number


def _signs(draws: Tensor) -> Tensor:
    return (draws < 0.5).to(draws) * 2 - 1

"""How far an adversary may move an image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robustbench_med.cases import Bounds
from robustbench_med.errors import InputError
from robustbench_med.projections import onto_l1, onto_l2

Norm = Literal["linf", "l2", "l1"]
Unit = Literal["intensity", "fraction", "noise"]
Pull = Callable[[Tensor], Tensor]
ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
MOST_LEVELS = 65535  # of 16 bits; more than that float32 does not tell apart


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of a clean one, in `norm`, inside the legal intensities.

    Attributes:
        norm: Distance over all channels and voxels of a case.
        eps: Radius, in `unit`; at least 0.
        bounds: Lowest and highest legal intensity; may be infinite.
        unit: "intensity"; "fraction" of the clean case's own norm; or "noise", multiples of
            the standard deviation in `context["noise"]`, `(b,)`.
        support: Name of a context entry, broadcastable to the image, that is 0 where nothing
            may change (unacquired k-space samples, say).
        levels: Steps between the bounds in which images are stored: 255 for 8 bits, 4095 for 12;
            None where they are not stored as integers.
    """

    norm: Norm
    eps: float
    bounds: Bounds = (-math.inf, math.inf)
    unit: Unit = "intensity"
    support: str | None = None
    levels: int | None = None

    def __post_init__(self) -> None:
        for name, value, legal in (
            ("norm", self.norm, get_args(Norm)),
            ("unit", self.unit, get_args(Unit)),
        ):
            if value not in legal:
                raise InputError(f"ball: {name} must be one of {', '.join(legal)}, got {value!r}")
        if isinstance(self.eps, bool) or not isinstance(self.eps, (int, float)):
            raise InputError(f"ball: eps must be a number, got {self.eps!r}")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise InputError(f"ball: eps must be finite and at least 0, got {self.eps}")
        low, high = self.bounds
        object.__setattr__(self, "eps", float(self.eps))
        object.__setattr__(self, "bounds", (float(low), float(high)))
        if math.isnan(low) or math.isnan(high) or low >= high:
            raise InputError(f"ball: bounds must be low < high, got {self.bounds}")
        if self.levels is not None:
            _check_levels(self.levels, self.bounds)

    def __str__(self) -> str:
        suffix = {"intensity": "", "fraction": " of norm", "noise": " sigma"}[self.unit]
        region = f" on {self.support}" if self.support else ""
        stored = f" at {self.levels} levels" if self.levels else ""
        return f"{self.norm}<={self.eps:g}{suffix}{region}{stored}"

    def radius(self, centre: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Radius of each case in intensity units, `(b, 1, *1)`.

        Raises:
            InputError: If the unit is "noise" and the context has no such entry.
        """
        if self.unit == "fraction":
            return self.eps * per_case_norm(centre, self.norm)
        like = (-1, *[1] * (centre.ndim - 1))
        if self.unit == "noise":
            return self.eps * self._entry("noise", context).to(centre).view(like)
        return centre.new_full((len(centre),), self.eps).view(like)

    def project(
        self, image: Tensor, centre: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Pull each case of `image` into the ball around `centre`; shapes `(b, c, *s)`.

        Gives the nearest legal image of the ball, for a `centre` that is legal itself. Voxels that
        are not finite are put back to the clean value.
        """
        image = torch.where(image.isfinite(), image.to(centre), centre)
        return self.around(centre, context)(image)

    def stored(
        self, image: Tensor, centre: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Project `image`, then round it towards the clean image as it would be stored.

        Each voxel takes the stored value between its clean and its projected value that is nearest
        to the projected one, or the clean value where there is none. No voxel moves away from its
        clean value, so the result stays in the ball, in every norm; plain rounding leaves it.
        Without `levels` this is `project`.

        Raises:
            InputError: If the image's type is too coarse for the levels.
        """
        inside = self.project(image, centre, context)
        return inside if self.levels is None else self._towards(inside, centre, self.levels)

    def _towards(self, image: Tensor, centre: Tensor, levels: int) -> Tensor:
        low, high = self.bounds
        step = (high - low) / levels
        # What floating point may cost: a value that close to a level lies on it.
        slack = 4 * torch.finfo(image.dtype).eps * max(abs(low), abs(high)) / step
        if slack > 0.25:
            raise InputError(f"ball {self}: images of {image.dtype} do not tell its levels apart")
        place, clean = ((values - low) / step for values in (image, centre))
        level = torch.where(image > centre, (place + slack).floor(), (place - slack).ceil())
        # A level on which the clean value lies, or one beyond it, is not between the two.
        beyond = torch.where(image > centre, level - clean, clean - level)
        found = (low + level * step).where(beyond > slack, centre)
        return found.clamp(torch.minimum(image, centre), torch.maximum(image, centre))

    def around(self, centre: Tensor, context: Mapping[str, Tensor] | None = None) -> Pull:
        """Fix the ball's centre: a function that does as `project` does, for finite images.

        A search calls it at every step, so what does not change with the image is computed here.
        """
        inside = None
        if self.support is not None:
            inside = self._entry(self.support, context).to(centre) != 0
        radius = self.radius(centre, context)
        if self.norm == "linf":
            return _box(centre, radius, inside, self.bounds)

        onto = onto_l1 if self.norm == "l1" else onto_l2
        flat_radius = radius.flatten(start_dim=1)
        low, high = self.reach(centre)

        def pull(image: Tensor) -> Tensor:
            offset = image - centre
            if inside is not None:
                offset = offset.where(inside, 0)
            nearest = onto(offset.flatten(start_dim=1), flat_radius, low, high)
            return (centre + nearest.view_as(offset)).clamp(*self.bounds)

        return pull

    def reach(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """How far each voxel may fall and rise before it leaves the bounds, flat, `(b, n)`.

        At most 0 and at least 0; one infinite number where there is no bound.
        """
        flat = centre.flatten(start_dim=1)
        low, high = (
            bound - flat if math.isfinite(bound) else flat.new_tensor(bound)
            for bound in self.bounds
        )
        return low.clamp(max=0), high.clamp(min=0)

    def _entry(self, name: str, context: Mapping[str, Tensor] | None) -> Tensor:
        if context is None or name not in context:
            held = ", ".join(context or {}) or "nothing"
            raise InputError(f"ball {self}: needs {name!r} in the case's context, which has {held}")
        return context[name]


def _check_levels(levels: object, bounds: Bounds) -> None:
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MOST_LEVELS:
        raise InputError(
            f"ball: levels must be a whole number from 1 to {MOST_LEVELS}, got {levels!r}; "
            "255 for images of 8 bits"
        )
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            f"ball: levels = {levels} needs finite bounds, got [{low:g}, {high:g}]: the lowest "
            "and the highest value that can be stored"
        )


def _box(centre: Tensor, radius: Tensor, inside: Tensor | None, bounds: Bounds) -> Pull:
    if inside is not None:
        radius = radius.where(inside, 0)
    low, high = (centre - radius).clamp(*bounds), (centre + radius).clamp(*bounds)
    return lambda image: image.clamp(low, high)


def per_case_norm(offset: Tensor, norm: Norm) -> Tensor:
    """Length of each case, `(b, c, *s)` to `(b, 1, *1)`."""
    length: Tensor = torch.linalg.vector_norm(offset.flatten(start_dim=1), ORDER[norm], dim=1)
    return length.view(-1, *[1] * (offset.ndim - 1))

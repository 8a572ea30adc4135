"""Receive coils whose phases are not those that were calibrated."""

from dataclasses import dataclass, replace
from math import pi

import torch

from robustbench_med.cases import Batch
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.searching import Parameters
from robustbench_med.shifts.coils import require_coils
from robustbench_med.shifts.lines import levels_up_to
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class CoilPhase:
    """Turn the phase of each of several coils by an angle of its own.

    A coil's angle is uniform up to `radians` either way, the same for all its samples, slices and
    phases, and in proportion at every severity. Maps of sensitivity in the context stay, so coils
    that are put together by them cancel in part. What the angles have in common turns the image as
    a whole. Every sample keeps its magnitude, every coil its energy. Exact, on k-space of several
    coils, `(b, 2c, *s)`; one coil and images are refused.

    Attributes:
        radians: Largest angle of a coil, at most pi.

    Source: Roemer et al., MRM 16 (1990), for putting coils together by their phases.
    """

    radians: Levels = (0.15, 0.3, 0.6, 1.0, 1.6)

    def __post_init__(self) -> None:
        radians = levels_up_to("coil_phase: radians", self.radians, pi)
        object.__setattr__(self, "radians", radians)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        radians = strength("coil_phase", self.radians, severity)
        if severity == 0:
            return batch
        names = self.ranges(batch, severity)
        # Not the probe's own stream, whose name holds the severity: only the size is to differ.
        drawn = 2 * CaseRng(rng.seed, "coil_phase", rng.case_ids).uniform(len(names)) - 1
        return self.apply(batch, dict(zip(names, (radians * drawn).unbind(dim=1), strict=True)))

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `phase_0` and so on, the angle of each coil, in radians.

        Raises:
            CaseError: If the case is no k-space, or is of one coil.
        """
        require_coils("coil_phase", batch, "a magnitude shows no phase")
        most = strength("coil_phase", self.radians, severity)
        return {f"phase_{coil}": (-most, most) for coil in range(batch.image.shape[1] // 2)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in all angles.

        Raises:
            CaseError: If the case is no k-space, or is of one coil.
        """
        image = batch.image
        angle = torch.stack([parameters[name] for name in self.ranges(batch, 0)], dim=1).to(image)
        turn = torch.polar(torch.ones_like(angle), angle)
        turned = to_complex(image) * turn.view(*turn.shape, *[1] * (image.ndim - 2))
        return replace(batch, image=to_channels(turned))

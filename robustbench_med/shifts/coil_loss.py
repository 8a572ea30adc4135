"""Receive coils that fail."""

from dataclasses import dataclass, replace

import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.searching import Parameters
from robustbench_med.shifts.coils import require_coils
from robustbench_med.shifts.lines import levels_up_to
from robustbench_med.shifts.requirements import require_count
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class CoilLoss:
    """Take from some of several coils a share of what they receive, up to all of it.

    `coils` coils that follow one another fail, the last being followed by the first; which ones
    is drawn for each case, alike at every severity. All their samples lose the same share, noise
    and all. Maps of sensitivity in the context stay, as does the noise of the other coils: the
    model knows of no failure. Exact, on k-space of several coils, `(b, 2c, *s)`; one coil and
    images are refused.

    Attributes:
        loss: Share of a failing coil's signal that is lost; at most 1.
        coils: How many fail; at least one must be left.

    Source: Roemer et al., MRM 16 (1990), for an image from several coils.
    """

    loss: Levels = (0.3, 0.5, 0.7, 0.85, 1.0)
    coils: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", levels_up_to("coil_loss: loss", self.loss, 1))
        require_count("coil_loss: coils", self.coils)

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`; raises what `apply` raises."""
        loss = strength("coil_loss", self.loss, severity)
        if severity == 0:
            return batch
        # Not the probe's own stream, whose name holds the severity: only the loss is to differ.
        coil = CaseRng(rng.seed, "coil_loss", rng.case_ids).uniform()
        return self.apply(batch, {"loss": torch.full_like(coil, loss), "coil": coil})

    def ranges(self, batch: Batch, severity: float) -> dict[str, tuple[float, float]]:
        """See `Parametrised`: `loss`, and `coil`, the first to fail, as a share of their number."""
        del batch
        return {"loss": (0.0, strength("coil_loss", self.loss, severity)), "coil": (0.0, 1.0)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """See `Parametrised`; differentiable in the loss.

        Raises:
            CaseError: If the case is no k-space, is of one coil, or no coil would be left.
        """
        require_coils("coil_loss", batch, "use bias_field where there is one image")
        image = batch.image
        count = image.shape[1] // 2
        if self.coils >= count:
            raise CaseError(
                f"coil_loss: case {batch.case_ids[0]!r} has {count} coils, {self.coils} are to "
                "fail; leave at least one"
            )
        loss, coil = (parameters[name].to(image.device).unsqueeze(1) for name in ("loss", "coil"))
        first = (coil * count).floor().clamp(max=count - 1)
        fails = (torch.arange(count, device=image.device) - first) % count < self.coils
        gain = (1 - loss * fails).repeat_interleave(2, dim=1).to(image)
        return replace(batch, image=image * gain.view(*gain.shape, *[1] * (image.ndim - 2)))

"""A noisier measurement of k-space."""

from dataclasses import dataclass, replace

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.shifts.requirements import require_kspace
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class KspaceNoise:
    """Add complex Gaussian noise to the acquired samples, in multiples of the case's own noise.

    The standard deviation added to each real channel is `ratio * context["noise"]`, independent of
    what is there already; so the total is the old one times `sqrt(1 + ratio**2)`, which becomes
    the new `noise` of the context. Samples that were not acquired stay exactly 0.

    Attributes:
        ratio: Noise added, in multiples of the case's own.

    Source: Macovski, MRM 36 (1996): thermal noise is white, complex and Gaussian in k-space.
    """

    ratio: Levels = (1.0, 2.0, 3.0, 4.0, 5.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", require_levels("kspace_noise: ratio", self.ratio))

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is no k-space, or has no `noise` above 0 in its context.
        """
        if severity == 0:
            return batch
        ratio = strength("kspace_noise", self.ratio, severity)
        acquired = require_kspace("kspace_noise", batch, "use rician for magnitude images")
        noise = _own_noise(batch)
        sigma = ratio * noise.to(batch.image).view(-1, *[1] * (batch.image.ndim - 1))
        added = (sigma * rng.normal_like(batch.image)).where(acquired, 0)
        context = {**batch.context, "noise": noise * (1 + ratio**2) ** 0.5}
        return replace(batch, image=batch.image + added, context=context)


def _own_noise(batch: Batch) -> Tensor:
    noise = batch.context.get("noise")
    if noise is None or tuple(noise.shape) != (len(batch),):
        raise CaseError(
            "kspace_noise: needs noise in the context, one standard deviation a case, got "
            + ("none" if noise is None else f"shape {tuple(noise.shape[1:])}")
        )
    wrong = (~(noise.isfinite() & (noise > 0))).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise CaseError(
            f"kspace_noise: needs noise above 0 in the context, because the shift multiplies it; "
            f"case {batch.case_ids[first]!r} has {float(noise[first]):g}"
        )
    return noise

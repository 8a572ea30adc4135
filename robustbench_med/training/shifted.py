"""Training on shifted images: augmentation by what a scanner may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from robustbench_med.cases import Batch
from robustbench_med.components import made
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.probes import MOST_SEVERITY, Shift
from robustbench_med.streams import CaseRng

Asked = str | Mapping[str, object] | Shift
"""A shift as a plan writes it inside another table: a name, a table with `use`, or itself."""


@dataclass(frozen=True)
class Shifted:
    """Shift a share of each batch, every case at a severity of its own, and learn from that.

    Labels move where the shift moves them. Images are brought back into the model's bounds, as
    they are when a shift is measured. It helps against this shift and may cost elsewhere.

    Attributes:
        shift: What changes the cases.
        severity: The strongest; a case's is uniform from 0 to it.
        share: Chance of a case to be shifted at all, above 0.

    Source: training on the corruptions that are expected, as in section 5 of Hendrycks and
    Dietterich, ICLR 2019, arXiv:1903.12261.
    """

    shift: Asked
    severity: float = 3.0
    share: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.severity <= MOST_SEVERITY:
            raise InputError(
                f"shifted: severity must be above 0, at most {MOST_SEVERITY}, got {self.severity}"
            )
        if not 0 < self.share <= 1:
            raise InputError(f"shifted: share must be above 0, at most 1, got {self.share}")
        _ = self._shift

    @cached_property
    def _shift(self) -> Shift:
        shift: Shift = made("shifts", "shifted: shift", self.shift)
        return shift

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Batch:
        """See `Defence`; raises what the shift raises."""
        drawn = rng.uniform(2)
        severities = self.severity * drawn[:, 1] * (drawn[:, 0] < self.share)
        moved = [
            self._shift(batch[i], float(severity), CaseRng(rng.seed, rng.name, (case_id,)))
            for i, (case_id, severity) in enumerate(zip(batch.case_ids, severities, strict=True))
        ]
        image = torch.cat([one.image for one in moved]).clamp(*model.bounds)
        target = torch.cat([one.target for one in moved])
        context = {key: torch.cat([one.context[key] for one in moved]) for key in batch.context}
        return Batch(batch.case_ids, image, target, context)

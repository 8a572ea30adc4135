"""Clinical measures of whole patients, as an attack moves them.

Of probabilities, so that slopes reach every slice of both phases: volumes are sums over voxels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.attacks.pixelwise import require_segmentation
from robustbench_med.attacks.structures import require_sign, spacing_of
from robustbench_med.cases import Batch, Task
from robustbench_med.clinical import diagnose, measure
from robustbench_med.components import suggest
from robustbench_med.errors import InputError
from robustbench_med.soft_measures import MEASURES, soft_measures

Soft = dict[str, Tensor]


@dataclass(frozen=True)
class SignedMeasure:
    """Signed error of a clinical measure, in its unit: an ejection fraction moves up or down.

    `sign` times the measure of the probabilities minus that of the true labels; with
    probabilities of 0 and 1 it is the metric `measure_error`.

    Attributes:
        measure: Name of a measure of volumes: "lvef", "lvedv", "lvm", "rvef", ...
        sign: 1 to make the model answer too much, -1 too little.
    """

    measure: str = "lvef"
    sign: int = 1

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise InputError(
                f"signed_measure: no measure {self.measure!r} of soft volumes; "
                f"{suggest(str(self.measure), MEASURES)}"
            )
        require_sign("signed_measure", self.sign)

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the cases are no whole patients, or have no spacing.
        """
        found, spacing = _measured("signed_measure", output, batch, task)
        truth = F.one_hot(batch.target, output.shape[1]).movedim(-1, 1).to(output)
        return self.sign * (found[self.measure] - soft_measures(truth, spacing)[self.measure])


@dataclass(frozen=True)
class DiagnosisChange:
    """How far soft measures are beyond the limits of the true diagnosis, as a share of a limit.

    Above 0 the patient would no longer get that diagnosis; below 0 it is what the nearest limit
    still has to spare. The rules are those of `clinical.diagnose`, as far as they are about volumes
    and ejection fractions: walls and their motion, which no sum of probabilities gives, count
    as met. NaN where the true masks have no diagnosis, so that nothing is searched there.
    """

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the cases are no whole patients, or lack spacing, `bsa` in m^2 or `male`
                (1 or 0) in their context.
        """
        found, spacing = _measured("diagnosis_change", output, batch, task)
        for name in ("bsa", "male"):
            if name not in batch.context or batch.context[name].shape != (len(batch),):
                raise InputError(f"diagnosis_change: needs {name!r} (b,) in the cases' context")
        sizes, males = batch.context["bsa"].to(output), batch.context["male"] > 0
        truths = _diagnoses(batch.target, spacing, sizes, males)
        slack = slacks(found, sizes, males)
        never = torch.full_like(sizes, torch.nan)
        return torch.stack(
            [never[i] if name is None else -slack[name][i] for i, name in enumerate(truths)]
        )


def slacks(measures: Soft, bsa: Tensor, male: Tensor) -> Soft:
    """What each diagnosis' rule has to spare, `(b,)` by name, as a share of the nearest limit.

    Positive where the rule of volumes and ejection fractions is met.

    Args:
        measures: `lvef`, `lvedv`, `rvef` and `rvedv`, `(b,)`.
        bsa: Body surface, `(b,)`, in m^2.
        male: `(b,)`, boolean.

    Source: Bernard et al., IEEE TMI 37 (2018) 2514, as in `clinical.diagnose`.
    """
    lvef, rvef = measures["lvef"], measures["rvef"]
    lv, rv = measures["lvedv"] / bsa, measures["rvedv"] / bsa
    large_lv, large_rv = torch.where(male, 90.0, 80.0), torch.where(male, 110.0, 100.0)
    normal = (lvef / 50 - 1, 1 - lv / large_lv, 1 - rv / 100, rvef / 45 - 1)
    wide = torch.minimum(rv / large_rv - 1, rvef / 45 - 1)
    return {
        "NOR": torch.stack(normal).amin(dim=0),
        "MINF": 1 - lvef / 40,
        "DCM": torch.minimum(1 - lvef / 40, lv / 100 - 1),
        "HCM": lvef / 55 - 1,
        "RV": torch.maximum(1 - rvef / 40, wide),
    }


def _measured(who: str, output: Tensor, batch: Batch, task: Task) -> tuple[Soft, Tensor]:
    """Soft measures of the answers, and the spacing `(b, 3)`."""
    require_segmentation(who, output, batch, task)
    if output.ndim != 6 or output.shape[1:3] != (4, 2):
        raise InputError(
            f"{who}: needs whole patients, output (b, 4, 2, z, y, x), got {tuple(output.shape)}"
        )
    spacing = spacing_of(who, batch).to(output)
    return soft_measures(output.softmax(dim=1), spacing), spacing


def _diagnoses(target: Tensor, spacing: Tensor, bsa: Tensor, male: Tensor) -> list[str | None]:
    masks = target.cpu().numpy().astype(np.int8)
    rows = zip(masks, spacing.tolist(), bsa.tolist(), male.tolist(), strict=True)
    return [
        _diagnosis(mask.tobytes(), mask.shape, tuple(extent), size, male=bool(is_male))
        for mask, extent, size, is_male in rows
    ]


# A search asks for the same diagnoses at every step.
@lru_cache(maxsize=64)
def _diagnosis(
    held: bytes, shape: tuple[int, ...], spacing: tuple[float, ...], bsa: float, *, male: bool
) -> str | None:
    masks = np.frombuffer(held, dtype=np.int8).reshape(shape)
    return diagnose(measure(masks, spacing), bsa=bsa, male=male)

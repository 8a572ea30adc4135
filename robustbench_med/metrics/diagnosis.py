"""Whether the predicted masks lead to the same diagnosis as the true ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.clinical import diagnose
from robustbench_med.metrics.context import entries
from robustbench_med.metrics.heart import Pair, measured
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Diagnosis:
    """1 where the rules of diagnosis give the predicted masks the class of the true ones, else 0.

    The rules are those of `clinical.diagnose`. A prediction that meets none of them is wrong; a
    truth that meets none has no right answer.
    """

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Score each case.

        Args:
            output: `(b, 4, 2, z, y, x)`, logits of background, LV, myocardium and RV, at ED and
                ES.
            target: `(b, 2, z, y, x)`, class indices 0 to 3.
            context: With `spacing` `(b, 3)` in mm, `bsa` `(b,)` in m^2, and `male` `(b,)`, 1 or 0.

        Returns:
            `(b,)`; NaN where the true masks have no diagnosis, a spacing or a body surface is no
            positive number, or `male` is neither 1 nor 0.

        Raises:
            InputError: If the shapes are not those of whole patients.
            CaseError: If the context lacks an entry, or `spacing` is not of three axes.
        """
        _, sizes, males = entries("diagnosis", context, "spacing", "bsa", "male")
        pairs = measured("diagnosis", output, target, context)
        agreed = [
            _agreed(pair, size, male)
            for pair, size, male in zip(pairs, sizes.tolist(), males.tolist(), strict=True)
        ]
        return torch.tensor(agreed, dtype=torch.float64, device=output.device)


def _agreed(pair: Pair | None, bsa: float, male: float) -> float:
    if pair is None or not 0 < bsa < inf or male not in (0.0, 1.0):
        return nan
    predicted, true = (diagnose(found, bsa=bsa, male=bool(male)) for found in pair)
    return nan if true is None else float(predicted == true)

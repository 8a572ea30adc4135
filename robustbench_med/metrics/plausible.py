"""Whether predicted masks pass the checks that need no truth."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_med.clinical import quality
from robustbench_med.errors import InputError
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Plausible:
    """1 where a whole patient's predicted masks pass `clinical.quality`, else 0.

    It says nothing of how right they are: a wrong heart is plausible too. A model whose wrong
    answers fail it can be caught in use, where no truth is known.

    Attributes:
        slices: In a row that must hold the left ventricle; fewer than 6 for short stacks.
    """

    slices: int = 6

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if type(self.slices) is not int or self.slices < 1:
            raise InputError(f"plausible: slices must be a whole number above 0, got {self.slices}")

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Check each case.

        Args:
            output: `(b, 4, p, z, y, x)`, logits of background, LV, myocardium and RV.
            target: `(b, p, z, y, x)`, which only has to fit.

        Returns:
            `value`, and one by one `sizes`, `run` and `middle`, all `(b,)`, 1 or 0.

        Raises:
            InputError: If the shapes are not those of whole patients.
        """
        if output.ndim != 6 or output.shape[1] != 4 or target.shape != output.argmax(1).shape:
            raise InputError(
                "plausible: needs whole patients, output (b, 4, p, z, y, x) and target "
                f"(b, p, z, y, x), got {tuple(output.shape)} and {tuple(target.shape)}"
            )
        found = [
            quality(masks, least_slices=self.slices) for masks in output.argmax(dim=1).cpu().numpy()
        ]
        rows = [[one.passed, one.sizes, one.run, one.middle] for one in found]
        values = torch.tensor(rows, dtype=torch.float64, device=output.device).T
        return dict(zip(("value", "sizes", "run", "middle"), values, strict=True))

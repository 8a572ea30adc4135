"""How well a predicted region covers the true one."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar

from torch import Tensor

from robustbench_med.metrics.regions import regions, require_label
from robustbench_med.probes import Better


@dataclass(frozen=True)
class Dice:
    """Dice overlap of one class, with the counts it is made of.

    The counts let a patient's overlap come from the sums over their slices, instead of a mean
    that gives a slice of three voxels the weight of one of three thousand.

    Attributes:
        label: Index of the class to score.

    Source: Dice, Ecology 26 (1945).
    """

    label: int = 1

    better: ClassVar[Better] = "higher"
    patient: ClassVar[str] = "dice"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        require_label("dice", self.label)

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Score each case.

        Args:
            output: `(b, k, *s)`, logits.
            target: `(b, *s)`, class indices.

        Returns:
            `value`, in [0, 1], 0 where one region is empty, and NaN where both are, because
            overlap is then undefined; `shared`, `predicted` and `true`, in voxels; `penalised`,
            1 where one region alone is empty, 0 elsewhere, NaN where both are; all `(b,)`.

        Raises:
            InputError: If the shapes are no segmentation's, or have no such class.
        """
        predicted, true = regions("dice", output, target, self.label)
        counts = {"shared": predicted & true, "predicted": predicted, "true": true}
        voxels = {name: region.sum(dim=1).double() for name, region in counts.items()}
        value = 2 * voxels["shared"] / (voxels["predicted"] + voxels["true"])
        lone = (voxels["predicted"] > 0) != (voxels["true"] > 0)
        return {"value": value, **voxels, "penalised": lone.double().where(~value.isnan(), nan)}

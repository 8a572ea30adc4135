"""How far off a structure's volume is, with its sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.metrics.context import spacings
from robustbench_med.metrics.regions import regions, require_label
from robustbench_med.probes import Better

Unit = Literal["voxels", "ml"]


@dataclass(frozen=True)
class VolumeError:
    """Predicted minus true volume of one class: positive where the model sees too much.

    Sums over a patient's slices are the error of the patient's volume.

    Attributes:
        label: Index of the class to measure.
        unit: "voxels", or "ml", which needs `context["spacing"]`: `(b, 3)`, in mm, the extent
            of a voxel along z, y and x; for a slice z is the distance to the next one.
    """

    label: int = 1
    unit: Unit = "voxels"

    better: ClassVar[Better] = "zero"
    patient: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        require_label("volume_error", self.label)
        if self.unit not in get_args(Unit):
            raise InputError(f"volume_error: unit must be voxels or ml, got {self.unit!r}")

    def __call__(
        self, output: Tensor, target: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Measure each case.

        Args:
            output: `(b, k, *s)`, logits.
            target: `(b, *s)`, class indices.
            context: With `spacing` for ml.

        Returns:
            `(b,)`, in `unit`; NaN where a spacing is not a positive number.

        Raises:
            InputError: If the shapes are no segmentation's, or have no such class.
            CaseError: If ml is asked for and the spacing is missing, or not of three axes.
        """
        predicted, true = regions("volume_error", output, target, self.label)
        voxels = (predicted.sum(dim=1) - true.sum(dim=1)).double()
        if self.unit == "voxels":
            return voxels
        return voxels * (spacings("volume_error", context).prod(dim=1) / 1000)

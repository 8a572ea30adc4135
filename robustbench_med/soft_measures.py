"""Clinical measures of probabilities, which gradients flow through."""

from torch import Tensor

from robustbench_med.clinical.measures import MYOCARDIAL_DENSITY
from robustbench_med.clinical.walls import LV, MYOCARDIUM, RV

MEASURES = ("lvedv", "lvesv", "lvsv", "lvef", "lvm", "rvedv", "rvesv", "rvsv", "rvef")
LEAST_ML = 1.0


def soft_measures(probabilities: Tensor, spacing: Tensor) -> dict[str, Tensor]:
    """Clinical measures of whole patients; those of labels are `clinical.measure`'s.

    An end-diastolic volume below 1 mL counts as 1 mL where it divides.

    Args:
        probabilities: `(b, 4, 2, z, y, x)`, of background, LV, myocardium and RV, at ED and ES.
        spacing: `(b, 3)`, mm.

    Returns:
        `MEASURES` by name, `(b,)` each, in their units.
    """
    voxel_ml = spacing.prod(dim=1, keepdim=True) / 1000
    volumes = probabilities.flatten(start_dim=3).sum(dim=3) * voxel_ml[..., None]
    measures = {"lvm": volumes[:, MYOCARDIUM, 0] * MYOCARDIAL_DENSITY}
    for side, label in (("lv", LV), ("rv", RV)):
        full, empty = volumes[:, label, 0], volumes[:, label, 1]
        measures |= {f"{side}edv": full, f"{side}esv": empty, f"{side}sv": full - empty}
        measures[f"{side}ef"] = 100 * (full - empty) / full.clamp(min=LEAST_ML)
    return measures

"""A lesion that a reconstruction loses or invents, as an attack raises it."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_med.attacks.image_errors import entry, magnitudes
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError


@dataclass(frozen=True)
class LostFeature:
    """How much of a feature the answer lacks that the target, of full sampling, shows.

    0 where the answer shows as much of it as the target, 1 where it lacks the whole feature. How
    much an image shows is its contrast: the factor of the feature in the least squares fit of
    the image, inside the feature's region, by the feature and a constant. So a region that is
    brighter as a whole shows no more of it, and a region should hold some of the surroundings.

    Attributes:
        feature: Name of the context entry with the feature alone, in the target's intensities.
        region: Name of the entry that is not 0 inside the feature's region.

    Source: after Cheng et al., MIDL 2020 (false negative features), recalled; the contrast is ours.
    """

    feature: str = "feature"
    region: str = "feature_mask"

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the context lacks an entry, or the feature is flat inside its region.
        """
        return -_excess("lost_feature", self, output, batch, task)


@dataclass(frozen=True)
class InventedFeature:
    """How much of a feature the answer shows beyond the target, of full sampling.

    The negative of `lost_feature`: 1 where a feature that the target lacks is there entirely.

    Attributes:
        feature: Name of the context entry with the feature alone, in the target's intensities.
        region: Name of the entry that is not 0 inside the feature's region.
    """

    feature: str = "feature"
    region: str = "feature_mask"

    def __call__(self, output: Tensor, batch: Batch, task: Task) -> Tensor:
        """See `Objective`.

        Raises:
            InputError: If the context lacks an entry, or the feature is flat inside its region.
        """
        return _excess("invented_feature", self, output, batch, task)


def _excess(
    who: str, asked: LostFeature | InventedFeature, output: Tensor, batch: Batch, task: Task
) -> Tensor:
    """Contrast of the answer minus that of the target, `(b,)`."""
    found, true = magnitudes(who, output, batch, task)
    inside = (entry(who, asked.region, batch, true) != 0).flatten(start_dim=1)
    feature = entry(who, asked.feature, batch, true).flatten(start_dim=1)
    voxels = inside.sum(dim=1, keepdim=True).clamp(min=1)
    mean = feature.where(inside, 0).sum(dim=1, keepdim=True) / voxels
    pattern = (feature - mean).where(inside, 0)
    energy = pattern.square().sum(dim=1)
    flat = energy <= 1e-12 * feature.square().sum(dim=1)
    if flat.any():
        case = batch.case_ids[int(flat.int().argmax())]
        raise InputError(
            f"{who}: {asked.feature!r} of case {case!r} is flat "
            f"inside {asked.region!r}; let the region hold some of its surroundings"
        )
    return (pattern * (found - true).flatten(start_dim=1)).sum(dim=1) / energy

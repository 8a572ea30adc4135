"""From k-space to labels: reconstruct each slice, then segment it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustbench_med.networks.whole_patients import patients_of, slices_of
from robustbench_med.physics.display import to_unit

TASK = "segmentation of k-space"
BOUNDED_BY = ""


def pipeline(*, reconstruction: nn.Module, segmentation: nn.Module) -> "Pipeline":
    """Join two networks into one that maps k-space `(b, 2 c, *s, h, w)` to logits.

    In a plan each is a model table of its own: `reconstruction = { use = "deep_cascade",
    weights = "cascade.safetensors" }`.

    Args:
        reconstruction: Maps k-space `(b, 2 c, h, w)` and its context to `(b, 2, h, w)`.
        segmentation: Maps magnitudes `(b, 1, h, w)` in [0, 1] to logits `(b, k, h, w)`.
    """
    return Pipeline(reconstruction, segmentation)


class Pipeline(nn.Module):
    """See `pipeline`, which builds it.

    Between the two, the magnitude of each slice is divided by its 0.995 quantile and cut off at
    1. That has a gradient almost everywhere, so an attack on k-space reaches the labels.
    """

    def __init__(self, reconstruction: nn.Module, segmentation: nn.Module) -> None:
        super().__init__()
        self.reconstruction, self.segmentation = reconstruction, segmentation

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map `(b, 2 c, *s, h, w)` to `(b, k, *s, h, w)`; `*s` may be phase and slice.

        Raises:
            InputError: If the context has no mask, or a mask of other slices.
        """
        logits: Tensor = self.segmentation(self.magnitude(image, context))
        return patients_of(logits, image)

    def magnitude(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Reconstructed magnitudes of all slices in [0, 1], `(slices, 1, h, w)`."""
        complex_image = self.reconstruction(*slices_of("pipeline", image, context))
        return to_unit(torch.linalg.vector_norm(complex_image, dim=1, keepdim=True))

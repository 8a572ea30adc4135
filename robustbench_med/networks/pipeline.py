"""From k-space to labels: reconstruct each slice, then segment it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.physics.display import to_unit


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
        magnitude = self.magnitude(image, context)
        logits: Tensor = self.segmentation(magnitude)
        slices = (len(image), *image.shape[2:-2])
        return logits.view(*slices, *logits.shape[1:]).movedim(-3, 1)

    def magnitude(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Reconstructed magnitudes of all slices in [0, 1], `(slices, 1, h, w)`."""
        known = context or {}
        if "mask" not in known or known["mask"].shape[2:] != image.shape[2:]:
            found = tuple(known["mask"].shape) if "mask" in known else "none"
            raise InputError(
                f"pipeline: expected a mask (b, 1, *s, h, w) in the context for k-space "
                f"{tuple(image.shape)}, got {found}"
            )
        flat = {name: _slices(known[name]) for name in ("mask", "maps") if name in known}
        complex_image = self.reconstruction(_slices(image), flat)
        return to_unit(torch.linalg.vector_norm(complex_image, dim=1, keepdim=True))


def _slices(values: Tensor) -> Tensor:
    """Put every slice first: `(b, c, *s, h, w)` to `(slices, c, h, w)`."""
    return values.movedim(1, -3).flatten(0, -4)

"""Slices of whole patients, for networks that answer slice by slice."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.networks.measured import measured
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels

Context = Mapping[str, Tensor]


def slices_of(
    name: str, image: Tensor, context: Context | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take k-space apart, with its masks and maps.

    Args:
        name: Of the network, for errors.
        image: k-space as real channels, `(b, 2 c, *s, h, w)`; `*s` may be phase and slice.
        context: `mask`, `(b, 1, *s, h, w)`, and for several coils `maps`, as the image.

    Returns:
        k-space, `(slices, 2 c, h, w)`, and the context of the slices.

    Raises:
        InputError: If the context has no mask, or one of other slices.
    """
    known = context or {}
    # A tracer records shapes as tensors, on which a comparison would warn.
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not tracing and ("mask" not in known or known["mask"].shape[2:] != image.shape[2:]):
        found = tuple(known["mask"].shape) if "mask" in known else "none"
        raise InputError(
            f"{name}: expected a mask (b, 1, *s, h, w) in the context for k-space "
            f"{tuple(image.shape)}, got {found}"
        )
    return _flat(image), {key: _flat(known[key]) for key in ("mask", "maps") if key in known}


def patients_of(answers: Tensor, image: Tensor) -> Tensor:
    """Put answers `(slices, k, h, w)` together as `(b, k, *s, h, w)`; undoes `slices_of`."""
    return answers.view(len(image), *image.shape[2:-2], *answers.shape[1:]).movedim(-3, 1)


def zero_filled_slices(name: str, image: Tensor, context: Context | None) -> Tensor:
    """Zero-filled complex images of all slices, `(slices, 2, h, w)`; see `slices_of`."""
    return to_channels(adjoint(*measured(name, *slices_of(name, image, context)))[:, None])


def _flat(values: Tensor) -> Tensor:
    """Put every slice first: `(b, c, *s, h, w)` to `(slices, c, h, w)`."""
    return values.movedim(1, -3).flatten(0, -4)

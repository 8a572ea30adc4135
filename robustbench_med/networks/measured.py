"""What a reconstruction is given: k-space, coil sensitivities and the sampled places."""

from collections.abc import Mapping

from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import to_complex


def measured(
    name: str, image: Tensor, context: Mapping[str, Tensor] | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Read a batch of reconstruction cases.

    Args:
        name: Of the network, for errors.
        image: Measured k-space as real channels, `(b, 2 c, h, w)`.
        context: `mask`, `(b, 1, h, w)`, 1 where measured; and for more than one coil their
            sensitivities `maps`, `(b, 2 c, h, w)`.

    Returns:
        k-space, complex, `(b, c, h, w)`; the maps, of the same shape, or None; the mask.

    Raises:
        InputError: If the mask, or the maps of several coils, are missing or do not fit.
    """
    if image.ndim != 4:
        raise InputError(
            f"{name}: expected k-space (b, 2 c, h, w) as real channels, got {tuple(image.shape)}"
        )
    kspace = to_complex(image)
    entries = context or {}
    one_coil = kspace.shape[1] == 1
    if "mask" not in entries or not ("maps" in entries or one_coil):
        held = ", ".join(entries) or "nothing"
        needed = "mask" if one_coil else f"mask and maps for {kspace.shape[1]} coils"
        raise InputError(f"{name}: needs {needed} in the case's context, which has {held}")
    mask, cases, grid = entries["mask"], len(image), image.shape[2:]
    if mask.shape != (cases, 1, *grid):
        raise InputError(f"{name}: expected mask {(cases, 1, *grid)}, got {tuple(mask.shape)}")
    if "maps" not in entries:
        return kspace, None, mask.to(image)
    if entries["maps"].shape != image.shape:
        raise InputError(
            f"{name}: expected maps {tuple(image.shape)}, got {tuple(entries['maps'].shape)}"
        )
    return kspace, to_complex(entries["maps"].to(image)), mask.to(image)

"""What a reconstruction is given: k-space, coil sensitivities and the sampled places."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.physics.fourier import to_channels, to_complex

Measured = tuple[Tensor, Tensor | None, Tensor]


def measured(name: str, image: Tensor, context: Mapping[str, Tensor] | None) -> Measured:
    """Read a batch of single images.

    Args:
        name: Of the network, for errors.
        image: Measured k-space as real channels, `(b, 2 c, h, w)`.
        context: `mask`, `(b, 1, h, w)`, 1 where measured; and for more than one coil their
            sensitivities `maps`, `(b, 2 c, h, w)`.

    Returns:
        k-space, complex, `(b, c, h, w)`; the maps, of the same shape, or None; the mask.

    Raises:
        InputError: If the mask, or the maps of several coils, are missing or do not fit, or if
            nothing was measured.
    """
    _check_shape(name, image, "h, w")
    return _read(name, image, context)


def measured_frames(name: str, image: Tensor, context: Mapping[str, Tensor] | None) -> Measured:
    """Read a batch of series, as `measured` does, with an axis of frames before the lines.

    Args:
        name: Of the network, for errors.
        image: Measured k-space as real channels, `(b, 2 c, t, h, w)`.
        context: `mask`, `(b, 1, t, h, w)`; and `maps`, `(b, 2 c, t, h, w)`, or of one frame,
            `(b, 2 c, 1, h, w)`, that holds for all.

    Returns:
        k-space, complex, `(b, c, t, h, w)`; the maps, complex, or None; the mask.

    Raises:
        InputError: As `measured`; a frame may lack lines, a series may not.
    """
    _check_shape(name, image, "t, h, w")
    return _read(name, image, context)


def by_frame(
    name: str, network: nn.Module, image: Tensor, context: Mapping[str, Tensor] | None
) -> Tensor:
    """Reconstruct each frame by itself: `(b, 2 c, t, h, w)` to `(b, 2, t, h, w)`.

    Args:
        name: Of the network, for errors.
        network: Maps single images, `(b, 2 c, h, w)` and their context to `(b, 2, h, w)`.
        image: Measured k-space of a batch of series.
        context: Theirs, see `measured_frames`.

    Raises:
        InputError: As `measured_frames`, or if a frame has no line.
    """
    _, maps, mask = measured_frames(name, image, context)
    alone = {"mask": _frames(mask)}
    if maps is not None:
        alone["maps"] = _frames(to_channels(maps).expand_as(image))
    seen: Tensor = network(_frames(image), alone)
    return seen.view(len(image), -1, *seen.shape[1:]).movedim(1, 2)


def _frames(series: Tensor) -> Tensor:
    """Put every frame first: `(b, c, t, h, w)` to `(b t, c, h, w)`."""
    return series.movedim(2, 1).flatten(0, 1)


def _check_shape(name: str, image: Tensor, axes: str) -> None:
    if image.ndim != 2 + len(axes.split()):
        raise InputError(
            f"{name}: expected k-space (b, 2 c, {axes}) as real channels, got {tuple(image.shape)}"
        )


def _read(name: str, image: Tensor, context: Mapping[str, Tensor] | None) -> Measured:
    kspace = to_complex(image)
    entries = context or {}
    coils = kspace.shape[1]
    if "mask" not in entries or not ("maps" in entries or coils == 1):
        held = ", ".join(entries) or "nothing"
        needed = "mask" if coils == 1 else f"mask and maps for {coils} coils"
        raise InputError(f"{name}: needs {needed} in the case's context, which has {held}")
    mask, expected = entries["mask"], (len(image), 1, *image.shape[2:])
    if mask.shape != expected:
        raise InputError(f"{name}: expected mask {expected}, got {tuple(mask.shape)}")
    _check_sampled(name, mask)
    if "maps" not in entries:
        return kspace, None, mask.to(image)
    maps = entries["maps"]
    _check_maps(name, maps, image)
    return kspace, to_complex(maps.to(image)), mask.to(image)


def _check_maps(name: str, maps: Tensor, image: Tensor) -> None:
    one_frame = (*image.shape[:2], 1, *image.shape[3:]) if image.ndim == 5 else image.shape
    if maps.shape in (image.shape, one_frame):
        return
    got = f"{name}: expected maps {tuple(image.shape)}, got {tuple(maps.shape)}"
    if maps.ndim == image.ndim and maps.shape[1] != image.shape[1]:
        expected, found = maps.shape[1] // 2, image.shape[1] // 2
        raise InputError(
            f"{got}: maps of {expected} coils, k-space of {found}; give k-space and maps of all "
            "coils, or of one"
        )
    raise InputError(got)


def _check_sampled(name: str, mask: Tensor) -> None:
    # A tracer records values as tensors, and meta tensors have none.
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or mask.is_meta:
        return
    empty = int((mask == 0).flatten(start_dim=1).all(dim=1).sum())
    if empty:
        raise InputError(
            f"{name}: the mask has no sampled line in {empty} of {len(mask)} images, so there is "
            "nothing to reconstruct them from; lower the acceleration or leave them out"
        )

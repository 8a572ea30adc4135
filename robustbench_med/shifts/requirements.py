"""What a shift requires of its settings and of the cases."""

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError, UnsupportedError


def require_count(who: str, value: object) -> None:
    """Refuse a count that is not a whole number of at least 1.

    Raises:
        InputError: Naming the setting and what it got.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{who} must be a whole number, at least 1, got {value!r}")


def require_magnitudes(who: str, batch: Batch) -> Tensor:
    """Return the batch's images `(b, c, *s)` if all are at least 0.

    Raises:
        CaseError: If the case is k-space, or any intensity is negative, naming the first such
            case.
    """
    require_images(who, batch)
    lowest = batch.image.flatten(start_dim=1).amin(dim=1)
    negative = (lowest < 0).nonzero()
    if len(negative):
        first = int(negative[0])
        raise CaseError(
            f"{who}: needs magnitude images, at least 0; case {batch.case_ids[first]!r} goes down "
            f"to {float(lowest[first]):g}; normalise inside the network instead"
        )
    return batch.image


def require_plane(who: str, batch: Batch) -> Tensor:
    """Return the batch's images `(b, c, *s)` if they have rows and columns.

    Raises:
        UnsupportedError: If there are fewer than two spatial axes.
    """
    if batch.image.ndim < 4:
        got = tuple(batch.image.shape[1:])
        raise UnsupportedError(f"{who}: needs images with two or more spatial axes, got {got}")
    return batch.image


def require_pixel_mm(who: str, batch: Batch, instead: str = "") -> Tensor:
    """Return the distance of rows and of columns, `(b, 2)`, mm, float64, on the CPU.

    Args:
        who: The shift's name.
        batch: With `spacing` in its context, `(b, 3)`, mm along z, y, x.
        instead: What to do without one, for the message.

    Raises:
        CaseError: If there is no spacing, or it is not above 0.
    """
    spacing = batch.context.get("spacing")
    if spacing is None or tuple(spacing.shape) != (len(batch), 3):
        got = "none" if spacing is None else f"shape {tuple(spacing.shape[1:])}"
        raise CaseError(
            f"{who}: needs spacing in the context, mm along z, y, x, got {got}{instead}"
        )
    plane = spacing[:, 1:].cpu().double()
    if not bool((plane.isfinite() & (plane > 0)).all()):
        raise CaseError(f"{who}: spacing must be above 0 mm, got {spacing[:, 1:].tolist()}")
    return plane


def require_images(who: str, batch: Batch) -> None:
    """Refuse k-space, whose samples are no voxels.

    Raises:
        CaseError: If the context has a sampling `mask`.
    """
    if "mask" in batch.context:
        raise CaseError(
            f"{who}: acts on images, got k-space (the context has a mask); "
            "use a shift that takes it, such as motion, kspace_noise or lost_lines"
        )


def require_kspace(who: str, batch: Batch, instead: str) -> Tensor:
    """Return where a sample was acquired, bool, `(b, 1, *p, h, w)`.

    `*p` are the slices and phases of `*s`, or axes of length 1 where all share one mask.

    Args:
        who: The shift's name.
        batch: k-space as real channels, `(b, 2c, *s)`.
        instead: What to use for images, for the message.

    Raises:
        CaseError: If there is no `mask`, or it does not fit the image, or it acquires nothing.
    """
    mask, image = batch.context.get("mask"), batch.image
    if mask is None:
        raise CaseError(f"{who}: acts on k-space, which has a mask in its context; {instead}")
    fits = (
        image.ndim >= 4
        and image.shape[1] % 2 == 0
        and mask.ndim == image.ndim
        and mask.shape[1] == 1
        and mask.shape[-2:] == image.shape[-2:]
        and all(m in (1, s) for m, s in zip(mask.shape[2:], image.shape[2:], strict=True))
    )
    if not fits:
        raise CaseError(
            f"{who}: k-space needs an even number of channels and a mask with one channel and the "
            f"same axes; got image {tuple(image.shape[1:])} and mask {tuple(mask.shape[1:])}"
        )
    acquired = mask != 0
    require_samples(who, batch, acquired, "its mask is 0 everywhere")
    return acquired


def lines_of(acquired: Tensor) -> Tensor:
    """Which phase-encode lines were acquired, `(b, 1, *p, h, w)` to `(b, planes, h)`, bool."""
    return acquired.any(dim=-1).flatten(1, -2)


def require_samples(who: str, batch: Batch, acquired: Tensor, why: str) -> None:
    """Refuse cases without any acquired sample; `acquired` is `(b, ...)`, bool.

    Raises:
        CaseError: Naming the first such case, and why.
    """
    empty = (~acquired.flatten(start_dim=1).any(dim=1)).nonzero()
    if len(empty):
        case = batch.case_ids[int(empty[0])]
        raise CaseError(f"{who}: case {case!r} has no acquired sample: {why}")

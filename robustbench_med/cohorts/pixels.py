"""Image files as they are stored: one decoder per format, and nothing rescaled yet."""

import gzip
import struct
import tokenize
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image

from robustbench_med.errors import InputError

Array = NDArray[Any]
Colour = Literal["grey", "rgb"]

_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_PICTURES = ("PNG", "JPEG")
_UNREADABLE = (
    OSError, EOFError, ValueError, SyntaxError, IndexError, TypeError, OverflowError, MemoryError,
    KeyError, tokenize.TokenError,
    struct.error, zlib.error, gzip.BadGzipFile, Image.DecompressionBombError, ImageFileError,
    HeaderDataError,
)  # fmt: skip


@dataclass(frozen=True)
class Pixels:
    """What a file holds.

    Attributes:
        array: Stored values; a slope and an intercept in the header are applied.
        axes: One letter per axis of `array`: c (channels), z, y, x.
        spacing_mm: Per stored axis; None where the header has no unit of length.
        affine: Voxel to scanner, `(4, 4)`; None for formats without one.
    """

    array: Array
    axes: str
    spacing_mm: tuple[float, ...] | None = None
    affine: Array | None = None


def decode_image(path: Path, colour: Colour = "grey", axes: str | None = None) -> Pixels:
    """Decode a PNG, JPEG, NIfTI or `.npy` file.

    Args:
        path: The suffix decides the format.
        colour: What a PNG or JPEG is converted to; the other formats keep what they hold.
        axes: Letters of the stored axes; None for NIfTI's x, y, z and numpy's z, y, x.

    Raises:
        InputError: If the file is missing, of another format, does not decode, holds no
            numbers, or its axes are not `axes`.
    """
    return _decode(path, axes, "RGB" if colour == "rgb" else "grey")


def decode_mask(path: Path, axes: str | None = None) -> Pixels:
    """Decode a label mask as `decode_image` would, without any conversion of its values."""
    axes = axes.replace("c", "") if axes else None
    return _decode(path, axes, "labels")


def _decode(path: Path, axes: str | None, mode: str) -> Pixels:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        pixels = _by_suffix(path, axes, mode)
    except InputError:
        raise
    except _UNREADABLE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: does not decode: {detail}") from error
    if pixels.array.dtype.kind not in "buif" or pixels.array.size == 0:
        kind = f"{pixels.array.dtype} {pixels.array.shape}"
        raise InputError(f"{path}: expected real numbers, at least one, got {kind}")
    return pixels


def _by_suffix(path: Path, axes: str | None, mode: str) -> Pixels:
    name = path.name.lower()
    if name.endswith((".png", ".jpg", ".jpeg")):
        return _picture(path, mode)
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(path, axes)
    if name.endswith(".npy"):
        array = np.lib.format.open_memmap(path, mode="r")
        return Pixels(array, _letters(path, axes or "zyx"[-array.ndim :], array.ndim))
    raise InputError(f"{path}: expected .png, .jpg, .jpeg, .nii, .nii.gz or .npy")


def _picture(path: Path, mode: str) -> Pixels:
    with Image.open(path, formats=_PICTURES) as picture:
        picture.verify()  # the checksums and the end of a PNG, which decoding may pass over
    with Image.open(path, formats=_PICTURES) as picture:
        if mode == "labels" and len(picture.getbands()) > 1:
            raise InputError(f"{path}: expected a mask of one channel, got {picture.mode}")
        array = _converted(picture, mode)
    return Pixels(array, "yx" if array.ndim == 2 else "yxc")


def _converted(picture: Image.Image, mode: str) -> Array:
    """Pillow clips 16-bit grey to 8 bits when it converts, so that depth is kept by hand."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint16)
        return np.stack([deep] * 3, axis=-1) if mode == "RGB" else deep
    if mode == "labels":
        return np.asarray(picture)
    return np.asarray(picture.convert("RGB" if mode == "RGB" else "L"))


def _nifti(path: Path, axes: str | None) -> Pixels:
    stored: Any = nibabel.load(path)
    array = np.asanyarray(stored.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    letters = _letters(path, axes or "xyz"[: array.ndim], array.ndim)
    return Pixels(array, letters, _spacing_mm(stored.header, array.ndim), stored.affine)


def _spacing_mm(header: Any, ndim: int) -> tuple[float, ...] | None:  # noqa: ANN401 (untyped)
    unit, _ = header.get_xyzt_units()
    zooms = tuple(float(zoom) * _MM.get(unit, 0.0) for zoom in header.get_zooms()[:ndim])
    return zooms if all(np.isfinite(zooms)) and min(zooms) > 0 else None


def _letters(path: Path, axes: str, ndim: int) -> str:
    if len(axes) != ndim or not {"x", "y"} <= set(axes):
        raise InputError(f"{path}: expected axes {axes!r}, at least two, got {ndim} axes")
    return axes

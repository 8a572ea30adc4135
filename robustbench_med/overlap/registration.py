"""How well two pictures agree in their detail once one is laid on the other."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from robustbench_med.overlap.picture import SIDE, Floats

DETAIL = 2.0
"""Pixels of the picture; what is smoother is anatomy that patients share."""
REACH = 4
ZOOMS = (0.92, 0.96, 1.0, 1.04, 1.08, 1.12)
INNER = SIDE - 2 * REACH
FAINT = 1e-3
"""Of a picture's spread; less detail than this is rounding."""
PLANE = (1, 2)
SMOOTHER = gaussian_filter1d(np.eye(SIDE), DETAIL, axis=0)


def agreement(moving: Floats, fixed: Floats) -> float:
    """Return the greatest correlation of two `(64, 64)` pictures' details.

    Taken over shifts of up to 4 pixels and zooms of -8% to 12%, which undo a small crop. Detail
    is what a Gaussian of 2 pixels leaves out, cut at its own mean size: a letter or a frame
    drawn into one image, or into both, then counts little more than as much anatomy.

    Args:
        moving: Already turned as the shortlist says.
        fixed: What it is laid on.

    Returns:
        In [0, 1]; 1 for a copy, whatever its gain and offset; 0 where a picture has no detail.

    Source: normalised cross-correlation: Lewis, Vision Interface 1995.
    """
    centres = _centres(ZOOMERS @ moving @ ZOOMERS.transpose(0, 2, 1))
    detail = _detail(fixed[None])[0]
    # the centres have mean 0, so the windows' means take no part above
    windows = np.lib.stride_tricks.sliding_window_view(detail, (INNER, INNER))
    above = windows.reshape(-1, INNER * INNER) @ centres.T
    below = np.sqrt(np.maximum(_box(detail**2) - _box(detail) ** 2 / INNER**2, 0)).reshape(-1, 1)
    correlation = np.divide(above, below, out=np.zeros_like(above), where=below > FAINT * INNER)
    return float(np.clip(correlation.max(), 0, 1))


def _detail(pictures: Floats) -> Floats:
    """`(n, 64, 64)`, cut at its mean size; 0 where there is none."""
    mean = pictures.mean(axis=PLANE, keepdims=True)
    spread = pictures.std(axis=PLANE, keepdims=True)
    # a picture of one value has no scale; divided by its own rounding it would have detail
    flat = spread <= 1e-9 * np.maximum(1.0, np.abs(mean))
    scaled = np.where(flat, 0.0, (pictures - mean) / np.where(flat, 1.0, spread))
    detail = scaled - SMOOTHER @ scaled @ SMOOTHER.T
    size = np.abs(detail).mean(axis=PLANE, keepdims=True)
    return np.asarray(np.clip(detail, -size, size))


def _centres(pictures: Floats) -> Floats:
    """The inner parts' detail, `(n, 56 * 56)`, of mean 0 and length 1; 0 where there is none."""
    inner = _detail(pictures)[:, REACH:-REACH, REACH:-REACH].reshape(len(pictures), -1)
    inner = inner - inner.mean(axis=1, keepdims=True)
    length = np.linalg.norm(inner, axis=1, keepdims=True)
    return np.asarray(
        np.divide(inner, length, out=np.zeros_like(inner), where=length > FAINT * INNER)
    )


def _box(values: Floats) -> Floats:
    """Sums over all windows of the inner size."""
    rows = np.cumsum(np.pad(values, ((1, 0), (1, 0))), axis=0)
    total = np.cumsum(rows, axis=1)
    upper, lower = total[:-INNER], total[INNER:]
    return np.asarray(lower[:, INNER:] - lower[:, :-INNER] - upper[:, INNER:] + upper[:, :-INNER])


def _zoomer(zoom: float) -> Floats:
    """Linear interpolation along one axis about its middle; edges are repeated."""
    middle = (SIDE - 1) / 2
    place = np.clip(middle + (np.arange(SIDE) - middle) / zoom, 0, SIDE - 1)
    low = np.minimum(place.astype(np.int64), SIDE - 2)
    made = np.zeros((SIDE, SIDE))
    made[np.arange(SIDE), low] = 1 - (place - low)
    made[np.arange(SIDE), low + 1] = place - low
    return made


ZOOMERS = np.stack([_zoomer(zoom) for zoom in ZOOMS])

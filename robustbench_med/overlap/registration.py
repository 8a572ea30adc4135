"""How well two pictures agree in their detail once one is laid on the other."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from robustbench_med.overlap.picture import SIDE, Floats

DETAIL = 2.0
"""Pixels of the picture; what is smoother is anatomy that patients share."""
REACH = 4
ZOOMS = (0.96, 1.0, 1.04)
INNER = SIDE - 2 * REACH
FAINT = 1e-3
"""Of a picture's spread; less detail than this is rounding."""
SMOOTHER = gaussian_filter1d(np.eye(SIDE), DETAIL, axis=0)


def agreement(moving: Floats, fixed: Floats) -> float:
    """Return the greatest correlation of two `(64, 64)` pictures' details.

    Taken over shifts of up to 4 pixels and zooms of 4%, which undo a small crop. Detail is what
    a Gaussian of 2 pixels leaves out. 0 where a picture has none.

    Args:
        moving: Already turned as the shortlist says.
        fixed: What it is laid on.

    Returns:
        In [0, 1]; 1 for a copy, whatever its gain and offset.

    Source: normalised cross-correlation: Lewis, Vision Interface 1995.
    """
    centres = np.stack([_centre(zoom @ moving @ zoom.T) for zoom in ZOOMERS])
    detail = _detail(fixed)
    # the centres have mean 0, so the windows' means take no part above
    windows = np.lib.stride_tricks.sliding_window_view(detail, (INNER, INNER))
    above = windows.reshape(-1, INNER * INNER) @ centres.T
    below = np.sqrt(np.maximum(_box(detail**2) - _box(detail) ** 2 / INNER**2, 0)).reshape(-1, 1)
    correlation = np.divide(above, below, out=np.zeros_like(above), where=below > FAINT * INNER)
    return float(np.clip(correlation.max(), 0, 1))


def _detail(picture: Floats) -> Floats:
    # scaled first, so that a gain does not decide whether a picture counts as faint
    spread = float(picture.std())
    if spread <= 1e-9 * max(1.0, float(np.abs(picture).max())):
        return np.zeros_like(picture)
    scaled = (picture - picture.mean()) / spread
    return np.asarray(scaled - SMOOTHER @ scaled @ SMOOTHER.T)


def _centre(picture: Floats) -> Floats:
    """The inner part's detail, flat, of mean 0 and length 1; 0 where there is none."""
    inner = _detail(picture)[REACH:-REACH, REACH:-REACH].reshape(-1)
    inner = inner - inner.mean()
    length = float(np.linalg.norm(inner))
    return inner / length if length > FAINT * INNER else np.zeros_like(inner)


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


ZOOMERS = tuple(_zoomer(zoom) for zoom in ZOOMS)

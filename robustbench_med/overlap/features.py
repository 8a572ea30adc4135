"""What an image's intensities and texture are like, in thirteen numbers."""

import math

import numpy as np

from robustbench_med.cases import Case
from robustbench_med.overlap.picture import Floats, plane_of

FEATURES = (
    "mean intensity", "contrast", "dark parts", "middle intensity", "bright parts",
    "share at the darkest value", "share at the brightest value", "sharpness", "spectrum slope",
    "noise", "height", "width", "colour",
)  # fmt: skip
LARGEST = 256
NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)


def features_of(case: Case) -> Floats:
    """Describe the middle plane of a case by `(13,)` numbers, in the order of `FEATURES`.

    Mean, standard deviation, percentiles 5, 50 and 95; shares of pixels at the extremes; mean
    square of the steps between neighbours over the variance; slope of log power over log
    frequency; noise; logarithms of height and width; difference of the first and last channel.
    """
    plane = plane_of(case, middle=True)
    low, high = float(plane.min()), float(plane.max())
    dark, middle, bright = np.percentile(plane, (5, 50, 95))
    clipped = (float((plane == low).mean()), float((plane == high).mean()))
    texture = (_sharpness(plane), spectrum_slope(plane), noise_of(plane))
    size = tuple(math.log(length) for length in plane.shape)
    return np.array([
        plane.mean(), plane.std(), dark, middle, bright, *clipped, *texture, *size, _colour(case),
    ])  # fmt: skip


def noise_of(plane: Floats) -> float:
    """Estimate the standard deviation of noise in a plane, 0 where it is under 3 pixels wide.

    A difference of two Laplacians takes flat and sloping parts to 0.

    Source: Immerkaer, Computer Vision and Image Understanding 1996, DOI 10.1006/cviu.1996.0060.
    """
    if min(plane.shape) < 3:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(plane, (3, 3))
    left = np.einsum("hwij,ij->hw", windows, NOISE)
    return float(math.sqrt(math.pi / 2) / 6 * np.abs(left).mean())


def spectrum_slope(plane: Floats) -> float:
    """Slope of log power over log frequency of the middle of a plane; 0 where it is flat.

    A line through the mean log power in rings from 4 cycles per plane to half of the greatest
    frequency: about -2 to -3 for images of the world, 0 for white noise.
    """
    rows, columns = (min(length, LARGEST) for length in plane.shape)
    top, left = (plane.shape[0] - rows) // 2, (plane.shape[1] - columns) // 2
    middle = plane[top : top + rows, left : left + columns]
    if min(rows, columns) < 32 or middle.std() == 0:
        return 0.0
    window = np.hanning(rows)[:, None] * np.hanning(columns)[None]
    power = np.abs(np.fft.rfft2((middle - middle.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    edges = np.geomspace(4 / min(rows, columns), 0.25, 9)
    ring = np.digitize(frequency, edges)
    inside = [ring == number for number in range(1, len(edges))]
    used = [part for part in inside if part.any()]
    x = np.array([math.log(frequency[part].mean()) for part in used])
    y = np.array([math.log(power[part].mean() + 1e-30) for part in used])
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def _sharpness(plane: Floats) -> float:
    variance = float(plane.var())
    if variance == 0 or min(plane.shape) < 2:
        return 0.0
    steps = np.square(np.diff(plane, axis=0)).mean() + np.square(np.diff(plane, axis=1)).mean()
    return float(steps) / variance


def _colour(case: Case) -> float:
    image = case.image.detach().cpu().double()
    return float((image[0] - image[-1]).mean()) if len(image) == 3 else 0.0

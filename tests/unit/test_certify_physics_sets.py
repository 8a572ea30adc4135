"""Prefixes are the physics, and boxes of gamma and pose hold all that they say they hold."""

import functools
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.certify.gamma_sets import gamma_boxes
from robustbench_med.certify.kspace_sets import line_errors, with_line_errors
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.physics_sets import (
    field_hull,
    smooth_fields,
    with_bias_field,
    with_gain,
    with_window,
)
from robustbench_med.certify.pose_sets import Pose, pose_box, pose_boxes, posed
from robustbench_med.certify.prefix import seen, with_affine
from robustbench_med.errors import InputError
from robustbench_med.networks.fixed_cascade import FixedCascade
from robustbench_med.proofs.evaluation import values
from robustbench_med.proofs.network_form import well_formed

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tightening_fixture.py"))))


@functools.cache
def classifier(channels=1):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 3, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 5 * 6, 4)
    return nn.Sequential(*layers).double(), MADE.written(layers, (channels, 9, 11))


def drawn(seed=0, channels=1, shape=(9, 11)):
    return np.random.default_rng(seed).uniform(size=(channels, *shape))


def answers(network, image):
    """Of the torch network in float64."""
    with torch.no_grad():
        return network.double()(torch.from_numpy(image)[None])[0].numpy()


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 1), (-np.inf, 0.7), (0.2, np.inf)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_network_behind_a_prefix_is_the_network_of_the_image_under_physics(bounds, channels):
    network, written = classifier(channels)
    image, rng = drawn(1, channels), np.random.default_rng(2)
    fields = smooth_fields(image.shape[1:], 2)
    gain, field, window = (
        with_gain(written, image, bounds),
        with_bias_field(written, image, fields, bounds),
        with_window(written, image, bounds),
    )
    for whole in (gain, field, window):
        well_formed(whole)
    for _ in range(5):
        a, b, c = rng.uniform(-1.5, 1.5, 1), rng.uniform(-1, 1, 5), rng.uniform(-1, 1, 2)
        bent = 1 + sum(x * each for x, each in zip(b, fields, strict=True))
        wanted = image * (1 + a[0]), image * bent, image * (1 + c[0]) + c[1]
        for whole, theta, free in zip((gain, field, window), (a, b, c), wanted, strict=True):
            physics = free.clip(*bounds)
            np.testing.assert_allclose(seen(written, whole, theta), physics, atol=1e-12)
            found = values(whole, theta)[-1]
            np.testing.assert_allclose(found, answers(network, physics), atol=1e-6)
            np.testing.assert_allclose(found, values(written, physics)[-1], atol=1e-12)


def test_fields_are_the_polynomials_of_the_bias_field_shift():
    from robustbench_med.shifts.bias_field import monomials

    for space in ((4, 5), (1, 3), (3, 2, 4)):
        np.testing.assert_allclose(smooth_fields(space, 3), monomials(space, 3).numpy(), atol=1e-6)


def test_the_pixel_hull_of_a_bias_field_holds_its_images_and_is_reached():
    image, fields, rng = drawn(3), smooth_fields((9, 11), 2)[:3], np.random.default_rng(4)
    low, high = field_hull(image, fields, 0.4, (0, 1))
    coefficients = rng.uniform(-0.4, 0.4, size=(2000, 3))
    images = (image * (1 + np.tensordot(coefficients, fields, 1))[:, None]).clip(0, 1)
    assert ((images >= low) & (images <= high)).all()
    for i, j in ((0, 0), (3, 7), (8, 2)):
        signs = 0.4 * np.sign(fields[:, i, j])
        reached = (image[0, i, j] * (1 + signs @ fields[:, i, j])).clip(0, 1)
        assert abs(reached - high[0, i, j]) < 1e-12


def test_line_errors_through_a_cascade_are_those_of_the_lines_in_torch():
    torch.manual_seed(1)
    mask = torch.zeros(8, 8)
    mask[[0, 3, 4, 5]] = 1
    block = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    cascade = FixedCascade(nn.ModuleList([block]), mask, 0.9).eval()
    rng, lines = np.random.default_rng(0), (3, 5)
    kspace = rng.normal(size=(2, 8, 8)) * mask.numpy()
    written = lowered(cascade, torch.from_numpy(kspace)[None]).network
    whole = with_line_errors(written, kspace, lines)
    well_formed(whole)
    box = line_errors(2, 0.1, 20)
    for _ in range(20):
        gain, phase = rng.uniform(-0.1, 0.1, 2), rng.uniform(-20, 20, 2)
        factor = (1 + gain) * np.exp(1j * np.deg2rad(phase))
        theta = np.stack([factor.real - 1, factor.imag], axis=1).ravel()
        assert ((theta >= box.low) & (theta <= box.high)).all()
        measured = kspace[0] + 1j * kspace[1]
        measured[list(lines)] *= factor[:, None]
        wrong = np.stack([measured.real, measured.imag])
        np.testing.assert_allclose(seen(written, whole, theta), wrong, atol=1e-12)
        image = cascade.double()(torch.from_numpy(wrong)[None])[0].detach().numpy()
        np.testing.assert_allclose(values(whole, theta)[-1], image, atol=1e-9)


def test_line_errors_are_no_wider_than_their_extremes():
    box = line_errors(1, 0.0, 30)
    np.testing.assert_allclose(box.low, [np.cos(np.pi / 6) - 1, -0.5], atol=1e-12)
    np.testing.assert_allclose(box.high, [0, 0.5], atol=1e-12)
    plain = line_errors(2, 0.2, 0)
    np.testing.assert_allclose(plain.low, [-0.2, 0, -0.2, 0], atol=1e-15)
    np.testing.assert_allclose(plain.high, [0.2, 0, 0.2, 0], atol=1e-15)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 3.0)])
def test_gamma_boxes_hold_every_gamma_and_their_ends_are_reached(bounds):
    low, high = bounds
    unit = np.concatenate([drawn(5), np.zeros((1, 9, 11)), np.ones((1, 9, 11))])
    image = np.clip(low + (high - low) * unit, low, high)
    boxes = gamma_boxes(image, 0.6, 1.7, 7, bounds)
    ends = np.geomspace(0.6, 1.7, 8)
    ends[-1] = 1.7
    for box, a, b in zip(boxes, ends[:-1], ends[1:], strict=True):
        for gamma in np.linspace(a, b, 50):
            shown = low + (high - low) * ((image - low) / (high - low)) ** gamma
            assert ((shown >= box.low) & (shown <= box.high)).all()
        at_a = low + (high - low) * ((image - low) / (high - low)) ** a
        np.testing.assert_allclose(box.high, at_a, atol=1e-12)


@pytest.mark.parametrize("pose", [Pose(), Pose(20), Pose(-7, 1.3, -0.4), Pose(90, 4, 5)])
def test_a_posed_image_is_what_torch_samples(pose):
    image = drawn(6, 2)
    angle, (height, width) = np.deg2rad(pose.degrees), image.shape[1:]
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([  # of (right, down), in units of half the image, as grid_sample has them
        [cos, -sin * (height - 1) / (width - 1), 2 * pose.right / (width - 1)],
        [sin * (width - 1) / (height - 1), cos, 2 * pose.down / (height - 1)],
    ])  # fmt: skip
    grid = F.affine_grid(torch.from_numpy(turn)[None], [1, 2, height, width], align_corners=True)
    expected = F.grid_sample(torch.from_numpy(image)[None], grid, align_corners=True)[0].numpy()
    np.testing.assert_allclose(posed(image, pose), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("degrees", "pixels", "parts"),
    [(5, 0, (8, 1)), (0, 1.2, (1, 4)), (4, 0.5, (4, 3)), (60, 0, (3, 1)), (180, 3, (2, 1))],
)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_ten_thousand_poses_lie_in_the_boxes_of_their_sub_intervals(degrees, pixels, parts, kind):
    image = drawn(7, 1)
    if kind == "smooth":
        image = np.exp(-(smooth_fields((9, 11), 2)[[1, 4]].sum(axis=0)))[None]
    boxes = pose_boxes(image, degrees, pixels, parts)
    assert len(boxes) == parts[0] * parts[1] ** 2
    rng = np.random.default_rng(8)
    sizes, counts = (degrees, pixels, pixels), (parts[0], parts[1], parts[1])
    for point in rng.uniform(-1, 1, size=(1000, 3)):
        at = [
            min(int((x + 1) / 2 * count), count - 1) for x, count in zip(point, counts, strict=True)
        ]
        box = boxes[np.ravel_multi_index(at, counts)]
        found = posed(image, Pose(*(x * size for x, size in zip(point, sizes, strict=True))))
        assert ((found >= box.low) & (found <= box.high)).all()


def test_pose_boxes_shrink_with_their_sub_intervals_and_are_near_what_poses_reach():
    image = np.exp(-3 * smooth_fields((12, 12), 2)[[0, 1]].sum(axis=0))[None]
    wide, narrow = (pose_box(image, Pose(2), size, 0) for size in (0.2, 0.05))
    assert 3 < (wide.high - wide.low).sum() / (narrow.high - narrow.low).sum() < 5
    shown = np.stack([posed(image, Pose(angle)) for angle in np.linspace(1.95, 2.05, 101)])
    reached = (shown.max(axis=0) - shown.min(axis=0)).sum()
    assert reached <= (narrow.high - narrow.low).sum() <= 3 * reached


def test_a_pose_box_of_no_width_is_the_posed_image():
    image = drawn(9)
    box = pose_box(image, Pose(3, 0.2, -0.7), 0, 0)
    np.testing.assert_allclose(box.low, posed(image, Pose(3, 0.2, -0.7)), atol=1e-7)
    np.testing.assert_allclose(box.high, box.low, atol=1e-7)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda net: with_gain(net, drawn(shape=(3, 3))), "the network's input is"),
        (lambda net: with_gain(net, drawn() * np.nan), "finite"),
        (lambda net: with_gain(net, drawn(), (1, 0)), "low < high"),
        (lambda net: with_bias_field(net, drawn(), np.ones((2, 3, 3))), "fields must be"),
        (lambda net: with_affine(net, drawn(), drawn()[None][:0]), "at least one parameter"),
        (lambda net: with_line_errors(net, drawn(), [0]), "k-space must be"),
        (lambda net: with_line_errors(net, drawn(channels=2), [0, 0]), "different rows"),
        (lambda net: with_line_errors(net, drawn(channels=2), [9]), "different rows"),
        (lambda _: line_errors(1, 2, 0), "gain must be"),
        (lambda _: gamma_boxes(drawn() + 1, 0.5, 1, 2), "within its bounds"),
        (lambda _: gamma_boxes(drawn(), 0, 1, 2), "0 < least"),
        (lambda _: pose_boxes(drawn()[0], 1), "finite"),
        (lambda _: pose_boxes(drawn(), -1), "degrees of 0 to 180"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(asked, message):
    with pytest.raises(InputError, match=message):
        asked(classifier()[1])

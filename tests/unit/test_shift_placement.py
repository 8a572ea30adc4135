"""Placement: whole pixels and quarter turns exactly, anything else against scipy; labels along."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustbench_med.attacks.physics import Physics
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.searching import searched
from robustbench_med.shifts.placement import Placement
from robustbench_med.streams import CaseRng

PIXELS = Placement(unit="pixels")
NONE = (0.0,) * 5
STILL = {"down_pixels": 0.0, "right_pixels": 0.0, "degrees": 0.0, "log_scale": 0.0}


def batch_of(space=(12, 10), cases=2, channels=2, dtype=torch.float32):
    stream = torch.Generator().manual_seed(4)
    image = torch.rand((cases, channels, *space), generator=stream, dtype=dtype)
    target = torch.randint(0, 4, (cases, *space), generator=stream)
    spacing = torch.tensor([[8.0, 2.0, 1.0], [8.0, 1.5, 1.5]])[:cases]
    return Batch(tuple("abcdef"[:cases]), image, target, {"spacing": spacing})


def placed(batch, shift=PIXELS, **parameters):
    values = {**({} if shift.unit == "mm" else STILL), **parameters}
    each = {k: torch.full((len(batch),), v, dtype=torch.float64) for k, v in values.items()}
    return shift.apply(batch, each)


def rolled(values, down, right):
    """Moved by whole pixels; what comes in repeats the edge."""
    height, width = values.shape[-2:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return values[..., rows, :][..., columns]


@pytest.mark.parametrize("space", [(12, 10), (3, 12, 10), (2, 3, 7, 9)])
@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, 0), (0, -2), (-4, 5), (20, 0)])
def test_whole_pixels_move_image_and_labels_exactly(space, down, right):
    batch = batch_of(space)
    moved = placed(batch, down_pixels=down, right_pixels=right)
    assert torch.equal(moved.image, rolled(batch.image, down, right))
    assert torch.equal(moved.target, rolled(batch.target, down, right))
    assert moved.target.dtype == torch.int64


@pytest.mark.parametrize("space", [(9, 9), (3, 8, 8)])
@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_quarter_turns_are_exact(space, turns):
    batch = batch_of(space)
    moved = placed(batch, degrees=90 * turns)
    # From columns towards rows is clockwise as an image is seen, rot90 turns the other way.
    assert torch.equal(moved.image, torch.rot90(batch.image, -turns, (-2, -1)))
    assert torch.equal(moved.target, torch.rot90(batch.target, -turns, (-2, -1)))


@pytest.mark.parametrize("unit", ["mm", "pixels"])
def test_anything_else_is_as_scipy_has_it(unit):
    batch, shift = batch_of(dtype=torch.float64), Placement(unit=unit)
    down, right, degrees, log_scale = 1.3, -0.7, 17.0, 0.2
    moved = placed(
        batch, shift, degrees=degrees, log_scale=log_scale,
        **{f"down_{unit}": down, f"right_{unit}": right},
    )  # fmt: skip
    angle, scale = np.deg2rad(degrees), np.exp(log_scale)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for case in range(2):
        mm = np.diag(batch.context["spacing"][case, 1:].double().numpy())
        mm = mm if unit == "mm" else np.eye(2)
        forward = np.linalg.inv(mm) @ turn @ mm  # rows and columns, about the middle
        back, middle = np.linalg.inv(forward), (np.array([12, 10]) - 1) / 2
        offset = middle - back @ (middle + np.linalg.inv(mm) @ np.array([down, right]))
        for channel in range(2):
            image = batch.image[case, channel].numpy()
            wanted = ndimage.affine_transform(image, back, offset, order=1, mode="nearest")
            found = moved.image[case, channel].numpy()
            np.testing.assert_allclose(found, wanted, atol=1e-9)
        labels = batch.target[case].numpy()
        wanted = ndimage.affine_transform(labels, back, offset, order=0, mode="nearest")
        assert np.array_equal(moved.target[case].numpy(), wanted)


def test_a_structure_grows_with_the_scale_and_its_mask_stays_on_it():
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = ((row - 30) ** 2 + (column - 33) ** 2 < 12**2).unsqueeze(0)
    batch = Batch(("a",), inside.float().unsqueeze(1), inside.long(), {"roi": inside.unsqueeze(1)})
    moved = placed(batch, degrees=25, log_scale=0.2, down_pixels=2.4, right_pixels=-1.6)
    grown = moved.target.sum() / batch.target.sum()
    assert float(grown) == pytest.approx(np.exp(0.4), rel=0.02)
    sure = (moved.image[:, 0] == 0) | (moved.image[:, 0] == 1)  # else it lies between two labels
    assert sure.float().mean() > 0.95
    assert torch.equal(moved.image[:, 0].long()[sure], moved.target[sure])
    assert torch.equal(moved.context["roi"][:, 0], moved.target.bool())


def test_what_lies_on_the_grid_moves_and_nothing_else():
    batch = batch_of()
    smooth = batch.image[:, :1] * 3
    context = {
        **batch.context, "prior": smooth, "flags": batch.image[:, :1] > 0.5,
        "maps": torch.complex(smooth, smooth), "sigma": torch.ones(2),
    }  # fmt: skip
    moved = placed(replace(batch, target=batch.image, context=context), down_pixels=0.5)
    torch.testing.assert_close(moved.target, moved.image)  # an image to reconstruct
    torch.testing.assert_close(moved.context["prior"], 3 * moved.image[:, :1])
    assert moved.context["flags"].dtype == torch.bool
    for name in ("maps", "sigma", "spacing"):
        assert moved.context[name] is context[name]
    classes = replace(batch, target=torch.tensor([1, 2]))
    assert placed(classes, down_pixels=3).target is classes.target


def test_slopes_of_the_image_agree_with_differences():
    batch = batch_of((9, 8), dtype=torch.float64)
    weight = torch.rand(batch.image.shape, dtype=torch.float64)
    start = torch.tensor([[0.31, -0.42, 6.1, 0.07], [-1.2, 0.33, -9.3, -0.04]]).double()
    names = list(PIXELS.ranges(batch, 1))

    def score(point):
        moved = PIXELS.apply(batch, dict(zip(names, point.unbind(dim=1), strict=True)))
        return (weight * moved.image).sum()

    assert torch.autograd.gradcheck(score, start.requires_grad_(), eps=1e-7, atol=1e-5)


def test_the_worst_placement_of_an_enumeration_is_found_with_its_labels():
    """A reader that only looks for the organ in one spot errs by what has left it."""
    row, column = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    organ = ((row - 12) ** 2 + (column - 10) ** 2 < 30).long().unsqueeze(0)
    batch = Batch(("a",), organ.float().unsqueeze(1), organ)

    class OneSpot:
        task, bounds = Task("segmentation", ("none", "organ")), (0.0, 1.0)

        def __call__(self, image, context=None):
            here = image * organ * 4 - 2
            return torch.cat([-here, here], dim=1)

    shift = Placement((3.0, 6.0, 9.0, 12.0, 15.0), NONE, NONE, unit="pixels")
    metric = {"wrong": lambda output, target: (output.argmax(1) != target).float().mean((1, 2))}
    probe = searched("placement", Physics(96), shift, 1.0, metric)
    values = probe.measure(OneSpot(), batch, CaseRng(1, "p", ("a",)))
    steps = torch.linspace(-3, 3, 25)
    every = max(
        float(metric["wrong"](OneSpot()(moved.image), moved.target))
        for down in steps for right in steps
        for moved in [placed(batch, shift, down_pixels=down, right_pixels=right)]
    )  # fmt: skip
    assert every > 0.05
    assert float(values["wrong"]) >= 0.9 * every
    assert values["found.degrees"].tolist() == [0.0]


def test_bad_settings_and_cases_are_refused_with_a_line():
    with pytest.raises(InputError, match="placement: degrees must be five zeros, for none of it"):
        Placement(degrees=-1)
    with pytest.raises(InputError, match="move, degrees or log_scale must be above 0, all are 0"):
        Placement(NONE, NONE, [0, 0, 0, 0, 0])
    with pytest.raises(InputError, match="unit must be mm or pixels, got 'cm'"):
        build("shifts", "placement", unit="cm")
    batch = batch_of()
    bare = replace(batch, context={})
    rng = CaseRng(0, "p", batch.case_ids)
    with pytest.raises(CaseError, match=r'needs spacing.*or set unit = "pixels"'):
        Placement()(bare, 1.0, rng)
    with pytest.raises(UnsupportedError, match=r"rows and columns.*\(6, 5\) and \(12, 10\)"):
        PIXELS(replace(batch, target=batch.target[..., ::2, ::2]), 1.0, rng)
    with pytest.raises(UnsupportedError, match="two or more spatial axes"):
        PIXELS(replace(batch, image=batch.image[..., 0]), 1.0, rng)

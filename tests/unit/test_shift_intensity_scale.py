"""Gain and offset: closed forms, units and directions."""

import math

import pytest
import torch
from monai.transforms import ScaleIntensity

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.intensity_scale import IntensityScale, brightness
from robustbench_med.streams import CaseRng

SMALL = (1e-9,) * 5


def images(cases=3, size=20):
    return torch.rand(cases, 1, size, size, generator=torch.Generator().manual_seed(0))


def batch_of(image):
    ids = tuple(f"c{i}" for i in range(len(image)))
    return Batch(ids, image, torch.zeros(len(image)))


def shift(scale, image, severity=2.0):
    batch = batch_of(image)
    return scale(batch, severity, CaseRng(0, "s", batch.case_ids)).image


@pytest.mark.parametrize(("direction", "sign"), [("brighter", 1), ("darker", -1)])
def test_a_gain_alone_multiplies_by_its_exponential(direction, sign):
    scale = IntensityScale((0.1, 0.2, 0.3, 0.4, 0.5), SMALL, direction)
    found = shift(scale, images(), 1.5)
    torch.testing.assert_close(found, images() * math.exp(sign * 0.15))


def test_a_gain_is_that_of_monai():
    found = shift(IntensityScale((0.1, 0.2, 0.3, 0.4, 0.5), SMALL, "brighter"), images())
    peer = ScaleIntensity(minv=None, maxv=None, factor=math.exp(0.2) - 1)(images())
    torch.testing.assert_close(found, torch.as_tensor(peer))


def test_an_offset_is_a_share_of_the_quantile_and_magnitudes_stay_above_0():
    levels = (0.1, 0.2, 0.3, 0.4, 0.5)
    image = torch.arange(100.0).view(1, 1, 10, 10)
    assert brightness(image).item() == 98.0  # the 99th of a hundred values
    up = shift(IntensityScale(SMALL, levels, "brighter"), image)
    torch.testing.assert_close(up, image + 0.2 * 98)
    down = shift(IntensityScale(SMALL, levels, "darker"), image)
    torch.testing.assert_close(down, (image - 0.2 * 98).clamp(min=0))


def test_the_unit_of_the_intensities_does_not_matter():
    torch.testing.assert_close(
        shift(IntensityScale(), 4096 * images()), 4096 * shift(IntensityScale(), images())
    )


def test_directions_are_drawn_per_case_with_equal_chance_and_alike_at_every_severity():
    image = images(1).expand(400, -1, -1, -1)
    weak, strong = (shift(IntensityScale(), image, v).mean(dim=(1, 2, 3)) for v in (1.0, 5.0))
    brighter = weak > image[0].mean()
    assert brighter.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert torch.equal(brighter, strong > image[0].mean())


def test_it_has_a_slope_in_both_parameters():
    scale, image = IntensityScale(), images(1)
    values = {n: torch.tensor([0.1], requires_grad=True) for n in scale.ranges(batch_of(image), 1)}
    scale.apply(batch_of(image), values).image.sum().backward()
    gain = math.exp(0.1) * image.sum()
    assert values["log_gain"].grad.item() == pytest.approx(gain.item(), rel=1e-4)
    assert values["offset"].grad.item() == pytest.approx(400 * brightness(image).item(), rel=1e-4)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="direction must be one of brighter, darker, random"):
        IntensityScale(direction="up")
    with pytest.raises(InputError, match="intensity_scale: offset must be five numbers"):
        IntensityScale(offset=(0.1,))
    with pytest.raises(CaseError, match="intensity_scale: needs magnitude images"):
        shift(IntensityScale(), -images())
    with pytest.raises(InputError, match="severity must be"):
        shift(IntensityScale(), images(), 5.5)

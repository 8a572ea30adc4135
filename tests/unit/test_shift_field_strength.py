"""Another field: gains against the signal equation, noise against its proportionality."""

import math

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.field_strength import FieldStrength, feathered
from robustbench_med.shifts.intensity_scale import brightness
from robustbench_med.streams import CaseRng


def batch_of(image, target, **context):
    return Batch(tuple(f"c{i}" for i in range(len(image))), image, target, context)


def shift(field, batch, severity=5.0):
    return field(batch, severity, CaseRng(0, "f", batch.case_ids)).image


def halves(size=40, values=(0.4, 0.8)):
    """Myocardium on the left, blood on the right."""
    target = torch.ones(1, size, size, dtype=torch.int64)
    target[..., size // 2 :] = 2
    image = torch.tensor([0.0, *values])[target].unsqueeze(1)
    return batch_of(image, target)


def on_resonance(t1, t2, density, flip_deg, tr_ms):
    """The bSSFP signal as the textbooks print it, on resonance, with TE = TR / 2."""
    e1, e2, flip = math.exp(-tr_ms / t1), math.exp(-tr_ms / t2), math.radians(flip_deg)
    below = 1 - (e1 - e2) * math.cos(flip) - e1 * e2
    return density * math.sin(flip) * (1 - e1) * math.exp(-tr_ms / 2 / t2) / below


def test_gains_are_the_ratios_of_the_signal_equation():
    tables = {"blood": ((1441, 290, 0.95), (1932, 275, 0.95)),
              "myocardium": ((1030, 40, 0.8), (1471, 47, 0.8)),
              "muscle": ((1008, 44, 0.8), (1412, 50, 0.8)),
              "fat": ((343, 58, 0.7), (382, 68, 0.7)),
              "liver": ((576, 46, 0.9), (812, 42, 0.9))}  # fmt: skip
    gain = {
        name: on_resonance(*after, 50.0, 3.0) / on_resonance(*before, 50.0, 3.0)
        for name, (before, after) in tables.items()
    }
    tissues = ("air", "mixed", *tables)
    field = FieldStrength(to_t=3.0, tissues=tissues, flip_deg=50.0, tr_ms=3.0)
    mixed = (gain["muscle"] * gain["fat"] * gain["liver"]) ** (1 / 3)
    assert field.gains() == pytest.approx((1.0, mixed, *gain.values()), rel=1e-4)


@pytest.mark.parametrize(("severity", "way"), [(1.0, 0.2), (5.0, 1.0)])
def test_the_ratio_of_two_tissues_changes_as_their_gains_and_the_brightness_stays(severity, way):
    field = FieldStrength(to_t=3.0, tissues=("air", "myocardium", "blood"))
    batch = halves()
    seen = shift(field, batch, severity)
    left, right = seen[0, 0, :, 5], seen[0, 0, :, -5]
    _, dark, bright = field.gains()
    expected = 0.5 * (dark / bright) ** way
    torch.testing.assert_close(left / right, torch.full((40,), expected), rtol=1e-5, atol=0)
    torch.testing.assert_close(brightness(seen), brightness(batch.image))


def test_going_there_and_back_changes_nothing_without_noise():
    names = ("air", "myocardium", "blood")
    there = FieldStrength(to_t=3.0, tissues=names, noise=1e-6)
    back = FieldStrength(from_t=3.0, to_t=1.5, tissues=names, noise=1e-6)
    batch = halves()
    again = shift(back, batch_of(shift(there, batch), batch.target))
    torch.testing.assert_close(again, batch.image, rtol=1e-4, atol=1e-5)


def test_signal_over_noise_is_proportional_to_field():
    sigma, size = 0.02, 1000
    target = torch.zeros(1, size, size, dtype=torch.int64)
    noise = sigma * torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(1))
    image = 1 + noise
    bright = float(brightness(image))
    # Blood alone: its own gain goes into the signal, the field's ratio into the noise.
    field = FieldStrength(to_t=0.55, tissues=("blood",), noise=sigma / bright)
    seen = shift(field, batch_of(image, target))
    gain = field.gains()[0]
    expected = (gain / sigma) * (0.55 / 1.5)
    assert (seen.mean() / seen.std()).item() == pytest.approx(expected, rel=0.01)


def test_a_higher_field_adds_no_noise_where_the_image_has_more_already():
    field = FieldStrength(to_t=3.0, tissues=("air", "myocardium", "blood"))
    seen = shift(field, halves())
    assert len(seen[0, 0, :, :15].unique()) == 1
    assert len(seen[0, 0, :, -15:].unique()) == 1


def test_borders_are_feathered_over_a_pixel_and_sums_kept():
    gain = torch.ones(2, 3, 12, 12)
    gain[..., 6:] = 2.0
    smooth = feathered(gain)
    row = torch.tensor([1.0] * 5 + [1.25, 1.75] + [2.0] * 5)
    torch.testing.assert_close(smooth, row.expand_as(smooth))


def test_labels_may_lie_in_the_context_and_volumes_will_do():
    target = torch.randint(1, 3, (2, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    image = torch.rand(2, 1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    field = FieldStrength(labels="tissue")
    here = shift(field, batch_of(image, torch.zeros(2), tissue=target))
    assert torch.equal(here, shift(FieldStrength(), batch_of(image, target)))


@pytest.mark.parametrize(
    "target", [torch.tensor([1]), torch.rand(1, 8, 8), torch.zeros(1, 4, 4, dtype=torch.int64)]
)
def test_without_labels_of_tissues_it_says_what_would_fit(target):
    with pytest.raises(CaseError, match=r"'c0': needs to know the tissue .* set labels") as refused:
        shift(FieldStrength(), batch_of(torch.rand(1, 1, 8, 8), target))
    assert "\n" not in str(refused.value)


def test_a_class_without_a_tissue_and_kspace_are_refused():
    target = torch.full((1, 8, 8), 4)
    with pytest.raises(CaseError, match="case 'c0' has classes 4 to 4, and tissues names 4"):
        shift(FieldStrength(), batch_of(torch.rand(1, 1, 8, 8), target))
    kspace = batch_of(torch.rand(1, 2, 8, 8), target, mask=torch.ones(1, 1, 8, 8))
    with pytest.raises(CaseError, match=r"field_strength: .*k-space"):
        shift(FieldStrength(), kspace)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="must be two of"):
        FieldStrength(to_t=1.5)
    with pytest.raises(InputError, match="must be two of"):
        FieldStrength(to_t=7.0)
    with pytest.raises(InputError, match="no 'blod'"):
        FieldStrength(tissues=("blod",))
    with pytest.raises(InputError, match="way must be at most 1"):
        FieldStrength(way=(0.5, 1, 1.5, 2, 3))
    with pytest.raises(InputError, match="noise must be above 0"):
        FieldStrength(noise=0.0)

"""A narrow window against MONAI's, and against its closed form."""

import pytest
import torch
from monai.transforms import ScaleIntensityRange

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.shifts.window import Window
from robustbench_med.streams import CaseRng


def batch_of(image, **context):
    ids = tuple(f"c{i}" for i in range(len(image)))
    return Batch(ids, image, torch.zeros(len(image)), context)


def shift(image, severity=3.0):
    batch = batch_of(image)
    return Window()(batch, severity, CaseRng(0, "w", batch.case_ids)).image


def ramp(low=0.0, high=1.0):
    return torch.linspace(low, high, 1001).view(1, 1, -1)


def test_it_is_monais_window():
    low, high = Window().low[2], 1 - Window().high[2]
    peer = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(ramp())
    torch.testing.assert_close(shift(ramp()), torch.as_tensor(peer))


def test_the_shares_of_a_ramp_at_both_ends_are_cut_off():
    found = shift(ramp(100, 300), 5.0)
    assert (found == 100).float().mean().item() == pytest.approx(Window().low[4], abs=2e-3)
    assert (found == 300).float().mean().item() == pytest.approx(Window().high[4], abs=2e-3)


def test_the_unit_does_not_matter_negative_ones_included():
    torch.testing.assert_close(
        shift(ramp(-1000, 1000)), 2000 * shift(ramp()) - 1000, atol=1e-3, rtol=0
    )


def test_a_constant_image_stays():
    flat = torch.full((2, 1, 3, 3), 7.0)
    assert torch.equal(shift(flat), flat)


def test_it_has_a_slope_in_both_ends():
    image = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).view(1, 1, 3)
    values = {n: torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
              for n in ("low", "high")}  # fmt: skip
    Window().apply(batch_of(image), values).image[0, 0, 1].backward()
    # (x - low) / (1 - low - high) at x = 0.5, low = high = 0.1
    assert values["low"].grad.item() == pytest.approx(-0.8 / 0.64 + 0.4 / 0.64)
    assert values["high"].grad.item() == pytest.approx(0.4 / 0.64)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="low and high of severity 5 must leave some"):
        Window(low=(0.1, 0.2, 0.3, 0.4, 0.5), high=(0.1, 0.2, 0.3, 0.4, 0.5))
    with pytest.raises(InputError, match="window: high must be five numbers"):
        Window(high=0.3)
    batch = batch_of(torch.rand(1, 2, 4, 4), mask=torch.ones(1, 1, 4, 4))
    with pytest.raises(CaseError, match=r"window: .*k-space"):
        Window()(batch, 1.0, CaseRng(0, "w", batch.case_ids))
